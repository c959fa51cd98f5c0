#include <espalier/backbone.h>
#include <espalier/error.h>
#include <espalier/plugin.h>

namespace espalier {

struct MlpOptions {
  std::vector<int64_t> hidden = {300, 100};
  std::string activation = "relu";
  double dropout = 0;

  static void declare(Declare<MlpOptions>& p) {
    p("hidden", &MlpOptions::hidden, at_least(1), "Units of each hidden layer.");
    p("activation", &MlpOptions::activation, one_of({"relu", "gelu", "sigmoid", "tanh"}),
      "Activation after each hidden layer.");
    p("dropout", &MlpOptions::dropout, at_least(0), below(1), "Probability of a zero after each hidden layer.");
  }
};

// Linear layers with an activation between; 300-100 on MNIST is LeCun et al. 1998's LeNet-300-100.
Graph mlp(const MlpOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (o.hidden.empty() && (o.dropout > 0 || o.activation != MlpOptions().activation))
    throw Error("'dropout' and 'activation' come after hidden layers, and `hidden` has none: leave them out");
  GraphBuilder g(input);
  Edge x = input.height > 0 ? g.flatten(g.input()) : g.input();
  for (size_t i = 0; i < o.hidden.size(); ++i) {
    x = g.activation(o.activation, g.linear("fc" + std::to_string(i + 1), x, {.features = o.hidden[i]}));
    if (o.dropout > 0) x = g.dropout(x, o.dropout);
  }
  return g.output(g.linear("fc" + std::to_string(o.hidden.size() + 1), x, {.features = target.outputs}));
}

ESPALIER_PLUGIN("mlp", "1.0.0", backbone<MlpOptions>("mlp", "multi-layer perceptron", mlp));

}  // namespace espalier
