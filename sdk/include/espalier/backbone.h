#pragma once

#include <memory>
#include <string>
#include <utility>

#include "espalier/builder.h"
#include "espalier/component.h"
#include "espalier/weights.h"

namespace espalier {

// Builds a network for given data. Most backbones are plain functions; see backbone() below.
class ESPALIER_API Backbone : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "backbone";
  // Returns the network for this input and target. Throws Error if it cannot be built for them, naming node and shapes.
  virtual Graph build(const InputSpec& input, const TargetSpec& target) const = 0;
  // Returns the options of the network that a trained one stands for: of a search network the genotype that its
  // coefficients choose. `graph` and `weights` are those of build(), as training left them. Null: there is no other
  // network.
  virtual Value derive(const Graph& /*graph*/, const Weights& /*weights*/) const { return {}; }
};

// A function that builds a network from options, input and target.
template <class Options>
using BackboneFunction = Graph (*)(const Options&, const InputSpec&, const TargetSpec&);
// A function that derives the options of another network from a trained one: Backbone::derive.
template <class Options>
using DeriveFunction = Value (*)(const Options&, const Graph&, const Weights&);

// Returns the component of a backbone that is a function from its options, the input and the target to a Graph:
//
//   ESPALIER_PLUGIN("tiny", "1.0.0", backbone<TinyOptions>("tiny", "two convolutions", build_tiny));
//
// `derivation`: for networks that are searched, the function that Backbone::derive calls.
template <class Options>
Component backbone(std::string name, std::string doc, BackboneFunction<Options> function,
                   DeriveFunction<Options> derivation = nullptr) {
  class FromFunction final : public Backbone {
   public:
    FromFunction(Options options, BackboneFunction<Options> function, DeriveFunction<Options> derivation)
        : options_(std::move(options)), function_(function), derivation_(derivation) {}
    Graph build(const InputSpec& input, const TargetSpec& target) const override {
      return function_(options_, input, target);
    }
    Value derive(const Graph& graph, const Weights& weights) const override {
      return derivation_ ? derivation_(options_, graph, weights) : Value();
    }

   private:
    Options options_;
    BackboneFunction<Options> function_;
    DeriveFunction<Options> derivation_;
  };
  Component c;
  c.kind = Backbone::kind;
  c.name = std::move(name);
  c.doc = std::move(doc);
  c.parameters = Declare<Options>().parameters();
  c.create = [what = "backbone '" + c.name + "'", function,
              derivation](const Value& options) -> std::unique_ptr<Object> {
    return std::make_unique<FromFunction>(Declare<Options>().read(options, what), function, derivation);
  };
  return c;
}

}  // namespace espalier
