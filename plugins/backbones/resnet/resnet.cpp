#include <algorithm>
#include <cmath>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct ResnetOptions {
  double width = 1;
  std::vector<int64_t> inner;
  std::string stem = "imagenet";
  bool zero_init = false;

  static void declare(Declare<ResnetOptions>& p) {
    p("width", &ResnetOptions::width, above(0), at_most(1000), "factor on all widths");
    p("inner", &ResnetOptions::inner, at_least(1),
      "filters inside of blocks: one number, or one for each of the four stages; empty: as wide as usual");
    p("stem", &ResnetOptions::stem, one_of({"imagenet", "cifar"}),
      "imagenet: 7x7 with stride 2 and max pooling; cifar: 3x3, for small images");
    p("zero_init", &ResnetOptions::zero_init,
      "each branch's last batch norm begins with the scale zero (Goyal et al. 2017)");
  }
};

namespace {

struct Block {
  GraphBuilder& g;
  const ResnetOptions& o;

  Edge conv_bn(const std::string& conv, const std::string& bn, Edge x, const GraphBuilder::Conv& c,
               bool last = false) const {
    return g.batch_norm(bn, g.conv(conv, x, c), {.init_weight = last && o.zero_init ? 0.0 : 1.0});
  }
  static GraphBuilder::Conv same(int64_t filters, int64_t kernel, int64_t stride = 1) {
    return {.filters = filters,
            .kernel = kernel,
            .stride = stride,
            .padding = kernel / 2,
            .bias = false,
            .init = "kaiming_normal_out"};
  }
  Edge basic(Edge x, int64_t inner, int64_t width, int64_t stride) const {
    x = g.relu(conv_bn("conv1", "bn1", x, same(inner, 3, stride)));
    return conv_bn("conv2", "bn2", x, same(width, 3), /*last=*/true);
  }
  // The stride lies in the 3x3 convolution, as everyone has it now.
  Edge bottleneck(Edge x, int64_t inner, int64_t width, int64_t stride) const {
    x = g.relu(conv_bn("conv1", "bn1", x, same(inner, 1)));
    x = g.relu(conv_bn("conv2", "bn2", x, same(inner, 3, stride)));
    return conv_bn("conv3", "bn3", x, same(4 * width, 1), /*last=*/true);
  }
};

// He et al. 2016 for ImageNet: four stages of basic blocks, or of bottlenecks, as in torchvision.
template <bool deep, int... counts>
Graph resnet(const ResnetOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Block block{g, o};
  const auto scaled = [&](int64_t w) { return std::max<int64_t>(1, std::llround(static_cast<double>(w) * o.width)); };
  if (o.inner.size() > 1 && o.inner.size() != 4)
    throw Error("'inner' has " + std::to_string(o.inner.size()) + " entries; 1 or 4 (one for each stage) are needed");
  const bool small = o.stem == "cifar";
  Edge x = g.relu(block.conv_bn("conv1", "bn1", g.input(), Block::same(scaled(64), small ? 3 : 7, small ? 1 : 2)));
  if (!small) x = g.max_pool(x, 3, 2, 1);
  int stage = 0;
  for (const int count : {counts...}) {
    const int64_t width = scaled(int64_t{64} << stage);
    const size_t at = o.inner.size() == 1 ? 0 : static_cast<size_t>(stage);
    const int64_t inner = o.inner.empty() ? width : scaled(o.inner[at]);
    for (int b = 0; b < count; ++b) {
      const auto s = g.scope("layer" + std::to_string(stage + 1) + "." + std::to_string(b));
      const int64_t stride = stage > 0 && b == 0 ? 2 : 1;
      // The shortcut comes first, so that batch norm, sum and ReLU at the end can be one pass.
      const int64_t out = deep ? 4 * width : width;
      const Edge shortcut = stride != 1 || g.channels(x) != out
                                ? block.conv_bn("downsample.0", "downsample.1", x, Block::same(out, 1, stride))
                                : x;
      const Edge y = deep ? block.bottleneck(x, inner, width, stride) : block.basic(x, inner, width, stride);
      x = g.relu(g.add(y, shortcut));
    }
    ++stage;
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.classes}));
}

}  // namespace

ESPALIER_PLUGIN("resnet", "1.0.0",
                backbone<ResnetOptions>("resnet18", "ResNet-18 in its ImageNet form", resnet<false, 2, 2, 2, 2>),
                backbone<ResnetOptions>("resnet34", "ResNet-34 in its ImageNet form", resnet<false, 3, 4, 6, 3>),
                backbone<ResnetOptions>("resnet50", "ResNet-50 in its ImageNet form", resnet<true, 3, 4, 6, 3>));

}  // namespace espalier
