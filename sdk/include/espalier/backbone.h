#pragma once

#include <memory>
#include <string>
#include <utility>

#include "espalier/builder.h"
#include "espalier/component.h"
#include "espalier/weights.h"

namespace espalier {

// Makes the network for the data.
class ESPALIER_API Backbone : public Object {
 public:
  static constexpr const char* kind = "backbone";
  virtual Graph build(const InputSpec& input, const TargetSpec& target) const = 0;
  // The options of the network that a trained one stands for: of a search network the genotype that its coefficients
  // choose. `graph` and `weights` are those that build() began with, as training left them. Null: there is no other.
  virtual Value derive(const Graph& /*graph*/, const Weights& /*weights*/) const { return {}; }
};

template <class Options>
using BackboneFunction = Graph (*)(const Options&, const InputSpec&, const TargetSpec&);
template <class Options>
using DeriveFunction = Value (*)(const Options&, const Graph&, const Weights&);

// A backbone is a function from its options, the input and the target to a Graph; one that a search trains may have a
// second function, Backbone::derive().
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
