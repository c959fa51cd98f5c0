#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct GcnOptions {
  std::vector<int64_t> hidden = {16};
  double dropout = 0.5;

  static void declare(Declare<GcnOptions>& p) {
    p("hidden", &GcnOptions::hidden, at_least(1), "Features of each hidden layer.");
    p("dropout", &GcnOptions::dropout, at_least(0), below(1), "Probability of a zero before each layer.");
  }
};

// Kipf & Welling 2017. Of a graph: a class for each node, over the normalised adjacency that the data give as the input
// "adjacency" (nodes whose target is -100 do not count). Of an image: a class for the whole, over the grid of its
// pixels.
Graph gcn(const GcnOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (input.nodes == 0 && input.height == 0) throw Error("gcn needs graphs or images, not vectors");
  GraphBuilder g(input);
  const bool image = input.nodes == 0;
  const Edge adjacency = image ? g.grid_adjacency(g.input()) : g.input("adjacency", {input.nodes, input.nodes});
  Edge x = image ? g.to_tokens(g.input(), /*flat=*/true) : g.input();
  for (size_t i = 0; i < o.hidden.size(); ++i) {
    if (o.dropout > 0) x = g.dropout(x, o.dropout);
    x = g.relu(g.graph_conv("conv" + std::to_string(i + 1), x, adjacency, o.hidden[i]));
  }
  if (o.dropout > 0) x = g.dropout(x, o.dropout);
  x = g.graph_conv("conv" + std::to_string(o.hidden.size() + 1), x, adjacency, target.outputs);
  return g.output(image ? g.mean(x) : x);
}

ESPALIER_PLUGIN("gcn", "1.0.0", backbone<GcnOptions>("gcn", "graph convolutional network", gcn));

}  // namespace espalier
