#include "resnet_body.h"

#include <algorithm>
#include <cmath>

#include <espalier/error.h>

namespace espalier {

void ResnetOptions::declare(Declare<ResnetOptions>& p) {
  p("width", &ResnetOptions::width, above(0), at_most(1000), "Factor on all widths.");
  p("inner", &ResnetOptions::inner, at_least(1),
    "Filters inside of blocks: one number, or one for each of the four stages. Left out: the usual "
    "widths.");
  p("stem", &ResnetOptions::stem, one_of({"imagenet", "cifar"}),
    "First layers; imagenet: a 7x7 convolution with stride 2, and max pooling; cifar: a 3x3 convolution, "
    "for small images.");
  p("zero_init", &ResnetOptions::zero_init,
    "Whether the last batch norm of each branch begins with the scale zero (Goyal et al. 2017).");
  p("norm_eps", &ResnetOptions::norm_eps, above(0),
    "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
    "TensorFlow's usual one is 1e-3.");
  p("stride_in", &ResnetOptions::stride_in, one_of({"3x3", "1x1"}),
    "Convolution of a bottleneck that has the stride; 1x1: the first one, as in the paper and in weights "
    "of Caffe and Keras.");
  p("dilated", &ResnetOptions::dilated, at_least(0), at_most(3),
    "How many of the last stages keep the size of their images: their convolutions are dilated instead of "
    "having a stride.");
  p("activation", &ResnetOptions::activation, one_of({"relu", "relu6", "gelu", "silu", "tanh"}),
    "Activation behind the stem, within blocks and behind their sums.");
}

namespace {

struct Block {
  GraphBuilder& g;
  const ResnetOptions& o;

  Edge conv_bn(const std::string& conv, const std::string& bn, Edge x, const GraphBuilder::Conv& c,
               bool last = false) const {
    return g.batch_norm(bn, g.conv(conv, x, c), {.eps = o.norm_eps, .init_weight = last && o.zero_init ? 0.0 : 1.0});
  }
  Edge activated(Edge x) const { return g.activation(o.activation, x); }
  static GraphBuilder::Conv same(int64_t filters, int64_t kernel, int64_t stride = 1, int64_t dilation = 1) {
    return {.filters = filters,
            .kernel = kernel,
            .stride = stride,
            .padding = dilation * (kernel / 2),
            .dilation = dilation,
            .bias = false,
            .init = "kaiming_normal_out"};
  }
  Edge basic(Edge x, int64_t inner, int64_t width, int64_t stride, int64_t dilation) const {
    x = activated(conv_bn("conv1", "bn1", x, same(inner, 3, stride, dilation)));
    return conv_bn("conv2", "bn2", x, same(width, 3, 1, dilation), /*last=*/true);
  }
  // The stride lies in the 3x3 convolution, as everyone has it now, unless the options say otherwise.
  Edge bottleneck(Edge x, int64_t inner, int64_t width, int64_t stride, int64_t dilation) const {
    const bool first = o.stride_in == "1x1";
    x = activated(conv_bn("conv1", "bn1", x, same(inner, 1, first ? stride : 1)));
    x = activated(conv_bn("conv2", "bn2", x, same(inner, 3, first ? 1 : stride, dilation)));
    return conv_bn("conv3", "bn3", x, same(4 * width, 1), /*last=*/true);
  }
};

}  // namespace

std::vector<Edge> resnet_stages(GraphBuilder& g, Edge image, const ResnetOptions& o, const ResnetDepth& depth) {
  const bool deep = depth.deep;
  const Block block{g, o};
  const auto scaled = [&](int64_t w) { return std::max<int64_t>(1, std::llround(static_cast<double>(w) * o.width)); };
  if (o.inner.size() > 1 && o.inner.size() != 4)
    throw Error("'inner' has " + std::to_string(o.inner.size()) + " entries; 1 or 4 (one for each stage) are needed");
  if (!deep && o.stride_in != ResnetOptions().stride_in)
    throw Error("'stride_in' is for bottlenecks, and this network has none: leave it out");
  const bool small = o.stem == "cifar";
  Edge x = block.activated(block.conv_bn("conv1", "bn1", image, Block::same(scaled(64), small ? 3 : 7, small ? 1 : 2)));
  if (!small) x = g.max_pool(x, 3, 2, 1);
  std::vector<Edge> stages;
  int stage = 0;
  int64_t dilation = 1;  // of the stage; its first block still has that of the stage before, as in torchvision
  for (const int count : depth.counts) {
    const int64_t before = dilation;
    const bool dilated = stage > 0 && stage + o.dilated >= 4;
    if (dilated) dilation *= 2;
    const int64_t width = scaled(int64_t{64} << stage);
    const size_t at = o.inner.size() == 1 ? 0 : static_cast<size_t>(stage);
    const int64_t inner = o.inner.empty() ? width : scaled(o.inner[at]);
    for (int b = 0; b < count; ++b) {
      const auto s = g.scope("layer" + std::to_string(stage + 1) + "." + std::to_string(b));
      const int64_t stride = stage > 0 && b == 0 && !dilated ? 2 : 1;
      // The shortcut comes first, so that batch norm, sum and ReLU at the end can be one pass.
      const int64_t out = deep ? 4 * width : width;
      const Edge shortcut = stride != 1 || g.channels(x) != out
                                ? block.conv_bn("downsample.0", "downsample.1", x, Block::same(out, 1, stride))
                                : x;
      const int64_t apart = b == 0 ? before : dilation;
      const Edge y =
          deep ? block.bottleneck(x, inner, width, stride, apart) : block.basic(x, inner, width, stride, apart);
      x = block.activated(g.add(y, shortcut));
    }
    stages.push_back(x);
    ++stage;
  }
  return stages;
}

}  // namespace espalier
