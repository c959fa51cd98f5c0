#pragma once

#include <memory>
#include <string>
#include <utility>

#include "espalier/builder.h"
#include "espalier/component.h"

namespace espalier {

// Builds a network for given data. Most backbones are plain functions; see backbone() below.
class ESPALIER_API Backbone : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "backbone";
  // Returns the network for this input and target. Throws Error if it cannot be built for them, naming node and shapes.
  virtual Graph build(const InputSpec& input, const TargetSpec& target) const = 0;
};

// A function that builds a network from options, input and target.
template <class Options>
using BackboneFunction = Graph (*)(const Options&, const InputSpec&, const TargetSpec&);

// Returns the component of a backbone that is a function from its options, the input and the target to a Graph:
//
//   ESPALIER_PLUGIN("tiny", "1.0.0", backbone<TinyOptions>("tiny", "two convolutions", build_tiny));
template <class Options>
Component backbone(std::string name, std::string doc, BackboneFunction<Options> function) {
  class FromFunction final : public Backbone {
   public:
    FromFunction(Options options, BackboneFunction<Options> function)
        : options_(std::move(options)), function_(function) {}
    Graph build(const InputSpec& input, const TargetSpec& target) const override {
      return function_(options_, input, target);
    }

   private:
    Options options_;
    BackboneFunction<Options> function_;
  };
  Component c;
  c.kind = Backbone::kind;
  c.name = std::move(name);
  c.doc = std::move(doc);
  c.parameters = Declare<Options>().parameters();
  c.create = [what = "backbone '" + c.name + "'", function](const Value& options) -> std::unique_ptr<Object> {
    return std::make_unique<FromFunction>(Declare<Options>().read(options, what), function);
  };
  return c;
}

}  // namespace espalier
