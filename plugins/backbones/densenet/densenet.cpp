#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

template <int64_t usual_growth>
struct DensenetOptions {
  int64_t growth = usual_growth;
  double dropout = 0;
  double norm_eps = 1e-5;

  static void declare(Declare<DensenetOptions>& p) {
    p("growth", &DensenetOptions::growth, at_least(1), "Channels that each layer adds.");
    p("dropout", &DensenetOptions::dropout, at_least(0), below(1), "Probability of a zero after each convolution.");
    p("norm_eps", &DensenetOptions::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

namespace {

template <class Options>
struct Layers {
  GraphBuilder& g;
  const Options& o;

  // Batch norm, ReLU, convolution.
  Edge conv(const std::string& n, Edge x, int64_t filters, int64_t kernel) const {
    x = g.conv(
        "conv" + n, g.relu(g.batch_norm("norm" + n, x, {.eps = o.norm_eps})),
        {.filters = filters, .kernel = kernel, .padding = kernel / 2, .bias = false, .init = "kaiming_normal_in"});
    return o.dropout > 0 ? g.dropout(x, o.dropout) : x;
  }
};

// Dense blocks with transitions between them, from the stem on. Each layer has a concatenation of its own, so that it
// can lose a connection for it alone.
template <class Options>
Graph densenet(GraphBuilder& g, const Options& o, Edge stem, const std::vector<int>& blocks, bool bc,
               const TargetSpec& target) {
  const Layers<Options> layers{g, o};
  std::vector<Edge> features{stem};
  const auto all = [&] { return features.size() > 1 ? g.concat(features) : features[0]; };
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (block > 0) {
      const auto s = g.scope("transition" + std::to_string(block));
      const Edge x = all();
      features = {g.avg_pool(layers.conv("", x, bc ? g.channels(x) / 2 : g.channels(x), 1), 2)};
    }
    for (int layer = 0; layer < blocks[block]; ++layer) {
      const auto s = g.scope("dense" + std::to_string(block + 1) + "." + std::to_string(layer));
      const Edge x = all();
      features.push_back(layers.conv(bc ? "2" : "1", bc ? layers.conv("1", x, 4 * o.growth, 1) : x, o.growth, 3));
    }
  }
  const Edge x = g.global_avg_pool(g.relu(g.batch_norm("norm", all(), {.eps = o.norm_eps})));
  return g.output(g.linear("fc", x, {.features = target.outputs}));
}

// Huang et al. 2017 for 32 x 32 images: three dense blocks; in the BC form with bottlenecks of 4 k and transitions that
// halve the channels.
template <int depth, bool bc>
Graph small(const DensenetOptions<12>& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge stem =
      g.conv("conv0", g.input(),
             {.filters = bc ? 2 * o.growth : 16, .padding = 1, .bias = false, .init = "kaiming_normal_in"});
  return densenet(g, o, stem, std::vector<int>(3, (depth - 4) / (bc ? 6 : 3)), bc, target);
}

// The same for ImageNet, in the BC form: table 1 of the paper, as in torchvision.
template <int... blocks>
Graph large(const DensenetOptions<32>& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  Edge x = g.conv(
      "conv0", g.input(),
      {.filters = 2 * o.growth, .kernel = 7, .stride = 2, .padding = 3, .bias = false, .init = "kaiming_normal_in"});
  x = g.max_pool(g.relu(g.batch_norm("norm0", x, {.eps = o.norm_eps})), 3, 2, 1);
  return densenet(g, o, x, {blocks...}, /*bc=*/true, target);
}

}  // namespace

ESPALIER_PLUGIN("densenet", "1.0.0",
                backbone<DensenetOptions<12>>("densenet40", "DenseNet-40 without bottlenecks", small<40, false>),
                backbone<DensenetOptions<12>>("densenet_bc100", "DenseNet-BC-100", small<100, true>),
                backbone<DensenetOptions<32>>("densenet121", "DenseNet-121 in its ImageNet form",
                                              large<6, 12, 24, 16>));

}  // namespace espalier
