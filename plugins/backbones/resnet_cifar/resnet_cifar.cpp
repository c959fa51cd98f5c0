#include <algorithm>
#include <cmath>
#include <numeric>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct ResnetCifarOptions {
  double width = 1;
  std::vector<int64_t> widths = {16, 32, 64};
  std::vector<int64_t> inner;
  int64_t stem = 0;
  std::vector<int64_t> blocks;
  std::string shortcut = "A";
  bool own_widths = false;
  int64_t reduction = 0;
  double norm_eps = 1e-5;

  static void declare(Declare<ResnetCifarOptions>& p) {
    p("width", &ResnetCifarOptions::width, above(0), at_most(1000), "Factor on all widths.");
    p("widths", &ResnetCifarOptions::widths, at_least(1), "Filters of each stage, or of each block.");
    p("inner", &ResnetCifarOptions::inner, at_least(1),
      "Filters of the first convolution in the blocks of each stage, or in each block. Left out: as "
      "`widths`.");
    p("stem", &ResnetCifarOptions::stem, at_least(0),
      "Filters of the first convolution; 0: as many as the first stage has.");
    p("blocks", &ResnetCifarOptions::blocks, at_least(1), at_most(1000),
      "Number of blocks in each stage. Left out: the numbers that belong to the name.");
    p("shortcut", &ResnetCifarOptions::shortcut, one_of({"A", "B", "none"}),
      "Shortcut between unequal widths; A: channels are padded with zeros or cropped; B: a 1x1 convolution "
      "with batch norm; none: no shortcuts at all, a plain network.");
    p("own_widths", &ResnetCifarOptions::own_widths,
      "Whether each block has a width of its own, which can shrink and grow alone. Then equal widths get a "
      "shortcut of option A, too.");
    p("reduction", &ResnetCifarOptions::reduction, at_least(0),
      "Squeeze-and-excitation at the end of each block: two linear layers of the channels' means scale the "
      "channels, and the hidden layer has channels / reduction units. 0: none (se_resnet20: 16).");
    p("norm_eps", &ResnetCifarOptions::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

namespace {

Edge conv_bn(GraphBuilder& g, const ResnetCifarOptions& o, const std::string& n, Edge x, int64_t filters,
             int64_t stride = 1) {
  x = g.conv("conv" + n, x,
             {.filters = filters, .stride = stride, .padding = 1, .bias = false, .init = "kaiming_normal_in"});
  return g.batch_norm("bn" + n, x, {.eps = o.norm_eps});
}

// Hu et al. 2018, eq. (2)-(4): every channel times a factor that the image itself decides. Without biases, as the
// authors found it better.
Edge squeeze_and_excite(GraphBuilder& g, Edge x, int64_t reduction) {
  const auto scope = g.scope("se");
  const int64_t channels = g.channels(x), hidden = std::max<int64_t>(1, channels / reduction);
  const Edge squeezed = g.relu(g.linear("fc1", g.global_avg_pool(x), {.features = hidden, .bias = false}));
  return g.scale(x, g.activation("sigmoid", g.linear("fc2", squeezed, {.features = channels, .bias = false})));
}

Edge basic_block(GraphBuilder& g, Edge x, int64_t inner, int64_t width, int64_t stride, const ResnetCifarOptions& o) {
  // The shortcut comes first, so that batch norm, sum and ReLU at the end can be one pass.
  Edge shortcut = x;
  const bool unequal = stride != 1 || g.channels(x) != width;
  if (unequal && o.shortcut == "B") {
    shortcut = g.conv("downsample.0", x,
                      {.filters = width, .kernel = 1, .stride = stride, .bias = false, .init = "kaiming_normal_in"});
    shortcut = g.batch_norm("downsample.1", shortcut, {.eps = o.norm_eps});
  } else if (o.shortcut != "none" && (unequal || o.own_widths)) {
    shortcut = g.pad_or_crop(x, width, stride);
  }
  Edge y = conv_bn(g, o, "2", g.relu(conv_bn(g, o, "1", x, inner, stride)), width);
  if (o.reduction > 0) y = squeeze_and_excite(g, y, o.reduction);
  return g.relu(o.shortcut == "none" ? y : g.add(y, shortcut));
}

// A value for each block, from one for each stage or each block.
std::vector<int64_t> for_each_block(const std::vector<int64_t>& given, const std::vector<int64_t>& blocks,
                                    double factor, const char* what) {
  std::vector<int64_t> all = given;
  if (given.size() == blocks.size()) {
    all.clear();
    for (size_t s = 0; s < blocks.size(); ++s) all.insert(all.end(), static_cast<size_t>(blocks[s]), given[s]);
  }
  const auto count = static_cast<size_t>(std::accumulate(blocks.begin(), blocks.end(), int64_t{0}));
  if (all.size() != count) {
    throw Error(std::string("'") + what + "' has " + std::to_string(given.size()) + " entries; " +
                std::to_string(blocks.size()) + " (one for each stage) or " + std::to_string(count) +
                " (one for each block) are needed");
  }
  for (int64_t& w : all) w = std::max<int64_t>(1, std::llround(static_cast<double>(w) * factor));
  return all;
}

// He et al. 2016 for 32 x 32 images: 6 n + 2 layers in three stages of n basic blocks.
template <int n>
Graph resnet(const ResnetCifarOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (o.own_widths && o.shortcut == "none")
    throw Error(
        "'own_widths' gives shortcuts to blocks of equal widths, and with `shortcut: none` there are none: "
        "every block has a width of its own then; leave it out");
  const std::vector<int64_t> blocks = o.blocks.empty() ? std::vector<int64_t>{n, n, n} : o.blocks;
  const std::vector<int64_t> widths = for_each_block(o.widths, blocks, o.width, "widths");
  const std::vector<int64_t> inner = for_each_block(o.inner.empty() ? o.widths : o.inner, blocks, o.width, "inner");
  const auto stem = static_cast<double>(o.stem) * o.width;
  GraphBuilder g(input);
  Edge x = g.relu(conv_bn(g, o, "1", g.input(), o.stem ? std::max<int64_t>(1, std::llround(stem)) : widths[0]));
  size_t i = 0;
  for (size_t stage = 0; stage < blocks.size(); ++stage) {
    for (int64_t b = 0; b < blocks[stage]; ++b, ++i) {
      const auto s = g.scope("layer" + std::to_string(stage + 1) + "." + std::to_string(b));
      x = basic_block(g, x, inner[i], widths[i], stage > 0 && b == 0 ? 2 : 1, o);
    }
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

// Hu et al. 2018 with the blocks of the above.
Graph se_resnet20(const ResnetCifarOptions& options, const InputSpec& input, const TargetSpec& target) {
  ResnetCifarOptions o = options;
  if (o.reduction == 0) o.reduction = 16;
  return resnet<3>(o, input, target);
}

}  // namespace

ESPALIER_PLUGIN("resnet_cifar", "1.0.0",
                backbone<ResnetCifarOptions>("resnet20", "ResNet-20 in its CIFAR form", resnet<3>),
                backbone<ResnetCifarOptions>("se_resnet20", "ResNet-20 with squeeze-and-excitation blocks",
                                             se_resnet20),
                backbone<ResnetCifarOptions>("resnet32", "ResNet-32 in its CIFAR form", resnet<5>),
                backbone<ResnetCifarOptions>("resnet44", "ResNet-44 in its CIFAR form", resnet<7>),
                backbone<ResnetCifarOptions>("resnet56", "ResNet-56 in its CIFAR form", resnet<9>),
                backbone<ResnetCifarOptions>("resnet110", "ResNet-110 in its CIFAR form", resnet<18>));

}  // namespace espalier
