#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct LinearBackboneOptions {
  bool bias = true;

  static void declare(Declare<LinearBackboneOptions>& p) {
    p("bias", &LinearBackboneOptions::bias, "Whether each output has a bias.");
  }
};

// One linear layer: linear or logistic regression.
Graph linear(const LinearBackboneOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge x = input.height > 0 ? g.flatten(g.input()) : g.input();
  return g.output(g.linear("fc", x, {.features = target.outputs, .bias = o.bias}));
}

ESPALIER_PLUGIN("linear", "1.0.0", backbone<LinearBackboneOptions>("linear", "one linear layer", linear));

}  // namespace espalier
