#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

// One linear layer: logistic regression.
Graph linear(const NoOptions&, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge x = input.height > 0 ? g.flatten(g.input()) : g.input();
  return g.output(g.linear("fc", x, {.features = target.outputs}));
}

ESPALIER_PLUGIN("linear", "1.0.0", backbone<NoOptions>("linear", "one linear layer", linear));

}  // namespace espalier
