#include <algorithm>
#include <cmath>
#include <numeric>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct PreResnetOptions {
  double width = 1;
  bool select = false;
  double norm_eps = 1e-5;

  static void declare(Declare<PreResnetOptions>& p) {
    p("width", &PreResnetOptions::width, above(0), at_most(1000), "Factor on all widths.");
    p("select", &PreResnetOptions::select,
      "Whether the first convolution of each block reads its channels through an index view, so that "
      "channels can be pruned for it alone while the residual stream stays (Liu et al. 2017).");
    p("norm_eps", &PreResnetOptions::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

namespace {

struct Block {
  GraphBuilder& g;
  const PreResnetOptions& o;

  // Batch norm, (selection,) ReLU: batch norm before the selection keeps the stream's channels.
  Edge bn_relu(const std::string& n, Edge x, bool stream = false) const {
    x = g.batch_norm("bn" + n, x, {.eps = o.norm_eps, .init_weight = 0.5});
    if (stream && o.select) {
      Indices all(static_cast<size_t>(g.channels(x)));
      std::iota(all.begin(), all.end(), 0);
      x = g.select("select", x, all, {.drops = true});
    }
    return g.relu(x);
  }
  Edge conv(const std::string& name, Edge x, int64_t filters, int64_t kernel = 1, int64_t stride = 1) const {
    return g.conv(name, x,
                  {.filters = filters,
                   .kernel = kernel,
                   .stride = stride,
                   .padding = kernel / 2,
                   .bias = false,
                   .init = "kaiming_normal_out"});
  }
  Edge bottleneck(Edge x, int64_t width, int64_t stride, bool first) const {
    Edge y = conv("conv1", bn_relu("1", x, /*stream=*/true), width);
    y = conv("conv2", bn_relu("2", y), width, 3, stride);
    y = conv("conv3", bn_relu("3", y), 4 * width);
    return g.add(y, first ? conv("downsample.0", x, 4 * width, 1, stride) : x);
  }
};

// He et al. 2016 (identity mappings) for 32 x 32 images: 9 n + 2 layers in three stages of n bottlenecks, as network
// slimming has it.
template <int n>
Graph preresnet(const PreResnetOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Block block{g, o};
  const auto scaled = [&](int64_t w) { return std::max<int64_t>(1, std::llround(static_cast<double>(w) * o.width)); };
  Edge x = block.conv("conv1", g.input(), scaled(16), 3);
  for (int stage = 0; stage < 3; ++stage) {
    for (int b = 0; b < n; ++b) {
      const auto s = g.scope("layer" + std::to_string(stage + 1) + "." + std::to_string(b));
      x = block.bottleneck(x, scaled(int64_t{16} << stage), stage > 0 && b == 0 ? 2 : 1, b == 0);
    }
  }
  x = g.global_avg_pool(block.bn_relu("", x, /*stream=*/true));
  return g.output(g.linear("fc", x, {.features = target.outputs}));
}

}  // namespace

ESPALIER_PLUGIN("preresnet", "1.0.0",
                backbone<PreResnetOptions>("preresnet56", "pre-activation ResNet-56, bottlenecks", preresnet<6>),
                backbone<PreResnetOptions>("preresnet164", "pre-activation ResNet-164, bottlenecks", preresnet<18>));

}  // namespace espalier
