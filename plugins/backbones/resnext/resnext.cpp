#include <algorithm>
#include <cmath>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct ResnextOptions {
  int64_t cardinality = 0;
  int64_t base_width = 0;
  double width = 1;
  double norm_eps = 1e-5;

  static void declare(Declare<ResnextOptions>& p) {
    p("cardinality", &ResnextOptions::cardinality, at_least(0),
      "Number of branches (groups) in each block; 0: the number that belongs to the name.");
    p("base_width", &ResnextOptions::base_width, at_least(0),
      "Filters of each branch in the first stage; 0: the number that belongs to the name.");
    p("width", &ResnextOptions::width, above(0), at_most(1000),
      "Factor on the channels of the stem (64) and between blocks (256, 512 and 1024).");
    p("norm_eps", &ResnextOptions::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

namespace {

Edge conv_bn(GraphBuilder& g, const ResnextOptions& o, const std::string& n, Edge x, int64_t filters,
             int64_t kernel = 1, int64_t stride = 1, int64_t groups = 1) {
  x = g.conv("conv" + n, x,
             {.filters = filters,
              .kernel = kernel,
              .stride = stride,
              .padding = kernel / 2,
              .groups = groups,
              .bias = false,
              .init = "kaiming_normal_out"});
  return g.batch_norm("bn" + n, x, {.eps = o.norm_eps});
}

// Xie et al. 2017 for 32 x 32 images: 29 layers in three stages of three blocks.
template <int cardinality, int base_width>
Graph resnext29(const ResnextOptions& o, const InputSpec& input, const TargetSpec& target) {
  const int64_t branches = o.cardinality ? o.cardinality : cardinality;
  const int64_t width = o.base_width ? o.base_width : base_width;
  const auto scaled = [&](int64_t w) { return std::max<int64_t>(1, std::llround(static_cast<double>(w) * o.width)); };
  GraphBuilder g(input);
  Edge x = g.relu(conv_bn(g, o, "1", g.input(), scaled(64), 3));
  for (int stage = 0; stage < 3; ++stage) {
    for (int b = 0; b < 3; ++b) {
      const auto s = g.scope("layer" + std::to_string(stage + 1) + "." + std::to_string(b));
      const int64_t stride = stage > 0 && b == 0 ? 2 : 1;
      const int64_t inner = branches * width << stage;
      Edge y = g.relu(conv_bn(g, o, "1", x, inner));
      y = g.relu(conv_bn(g, o, "2", y, inner, 3, stride, branches));
      y = conv_bn(g, o, "3", y, scaled(int64_t{256} << stage));
      if (b == 0) {
        const auto d = g.scope("downsample");
        x = conv_bn(g, o, "", x, scaled(int64_t{256} << stage), 1, stride);
      }
      x = g.relu(g.add(y, x));
    }
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

}  // namespace

ESPALIER_PLUGIN("resnext", "1.0.0",
                backbone<ResnextOptions>("resnext29_2x64d", "ResNeXt-29, 2 branches of 64", resnext29<2, 64>),
                backbone<ResnextOptions>("resnext29_4x64d", "ResNeXt-29, 4 branches of 64", resnext29<4, 64>),
                backbone<ResnextOptions>("resnext29_8x64d", "ResNeXt-29, 8 branches of 64", resnext29<8, 64>),
                backbone<ResnextOptions>("resnext29_16x64d", "ResNeXt-29, 16 branches of 64", resnext29<16, 64>),
                backbone<ResnextOptions>("resnext29_32x4d", "ResNeXt-29, 32 branches of 4", resnext29<32, 4>));

}  // namespace espalier
