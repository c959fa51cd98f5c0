#include <algorithm>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct MobilenetV2Options {
  double width = 1;
  std::string stem = "imagenet";
  double dropout = 0.2;
  double norm_eps = 1e-5;
  std::string padding = "symmetric";
  std::string activation = "relu6";

  static void declare(Declare<MobilenetV2Options>& p) {
    p("width", &MobilenetV2Options::width, above(0), at_most(1000),
      "Factor on all widths, which are then rounded to multiples of 8.");
    p("stem", &MobilenetV2Options::stem, one_of({"imagenet", "cifar"}),
      "First layers; cifar: the first two strides are 1, for small images.");
    p("dropout", &MobilenetV2Options::dropout, at_least(0), below(1), "Probability of a zero before the linear layer.");
    p("norm_eps", &MobilenetV2Options::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
    p("padding", &MobilenetV2Options::padding, one_of({"symmetric", "same"}),
      "Padding of the convolutions; same: as TensorFlow pads, with one more row and column of zeros at the "
      "end if a stride needs it.");
    p("activation", &MobilenetV2Options::activation, one_of({"relu", "relu6", "gelu", "silu", "tanh"}),
      "Activation behind each batch norm except the last one of a block.");
  }
};

namespace {

// The nearest multiple of 8, no more than a tenth below.
int64_t rounded(double width) {
  const int64_t n = std::max<int64_t>(8, static_cast<int64_t>(width + 4) / 8 * 8);
  return static_cast<double>(n) < 0.9 * width ? n + 8 : n;
}

struct Layers {
  GraphBuilder& g;
  const MobilenetV2Options& o;

  Edge conv_bn(const std::string& name, Edge x, const GraphBuilder::Conv& given) const {
    GraphBuilder::Conv c = given;
    c.padding = c.kernel / 2;
    c.same_padding = o.padding == "same";
    c.bias = false;
    c.init = "kaiming_normal_out";
    return g.batch_norm(name + "_bn", g.conv(name, x, c), {.eps = o.norm_eps});
  }
  Edge activated(const std::string& name, Edge x, const GraphBuilder::Conv& c) const {
    return g.activation(o.activation, conv_bn(name, x, c));
  }
  // Expands the channels, filters each by itself, projects without an activation.
  Edge inverted_residual(Edge x, int64_t expansion, int64_t filters, int64_t stride) const {
    Edge y = x;
    if (expansion != 1) y = activated("expand", y, {.filters = expansion * g.channels(x), .kernel = 1});
    y = activated("depthwise", y, {.stride = stride, .depthwise = true});
    y = conv_bn("project", y, {.filters = filters, .kernel = 1});
    return stride == 1 && g.channels(x) == filters ? g.add(y, x) : y;
  }
};

// Sandler et al. 2018.
Graph mobilenet_v2(const MobilenetV2Options& o, const InputSpec& input, const TargetSpec& target) {
  struct Stage {
    int64_t expansion, filters, blocks, stride;
  };
  const int64_t early = o.stem == "cifar" ? 1 : 2;
  const Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, early}, {6, 32, 3, 2}, {6, 64, 4, 2},
                          {6, 96, 3, 1}, {6, 160, 3, 2},    {6, 320, 1, 1}};
  GraphBuilder g(input);
  const Layers layers{g, o};
  Edge x = layers.activated("stem", g.input(), {.filters = rounded(32 * o.width), .stride = early});
  int block = 0;
  for (const Stage& stage : stages) {
    for (int64_t b = 0; b < stage.blocks; ++b) {
      const auto s = g.scope("blocks." + std::to_string(block++));
      x = layers.inverted_residual(x, stage.expansion, rounded(static_cast<double>(stage.filters) * o.width),
                                   b == 0 ? stage.stride : 1);
    }
  }
  x = layers.activated("head", x, {.filters = rounded(1280 * std::max(1.0, o.width)), .kernel = 1});
  x = g.global_avg_pool(x);
  if (o.dropout > 0) x = g.dropout(x, o.dropout);
  return g.output(g.linear("fc", x, {.features = target.outputs, .init = "normal"}));
}

}  // namespace

ESPALIER_PLUGIN("mobilenet_v2", "1.0.0",
                backbone<MobilenetV2Options>("mobilenet_v2", "MobileNetV2, inverted residuals", mobilenet_v2));

}  // namespace espalier
