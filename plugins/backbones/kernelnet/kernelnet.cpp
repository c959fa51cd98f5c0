#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct KernelnetOptions {
  double width = 1;
  bool residual = true;
  std::string shortcut = "A";
  int64_t layers = 0;
  int64_t kernel = 0;
  std::optional<std::vector<int64_t>> halve_at;
  bool batch_norm = true;
  double norm_eps = 1e-5;

  static void declare(Declare<KernelnetOptions>& p) {
    p("width", &KernelnetOptions::width, above(0), at_most(1000), "Factor on all widths.");
    p("residual", &KernelnetOptions::residual,
      "Whether each pair of convolutions from the second one on has a shortcut. If not, the network is plain.");
    p("shortcut", &KernelnetOptions::shortcut, one_of({"A", "B"}),
      "Shortcut between unequal sizes; A: channels are padded with zeros; B: a 1x1 convolution with batch norm.");
    p("layers", &KernelnetOptions::layers, at_least(0), at_most(10000),
      "Number of convolutions; those that the name does not have are of the last width. 0: as the name says.");
    p("kernel", &KernelnetOptions::kernel, at_least(0), at_most(63), unit("pixels"),
      "Side of all kernels but those of an ImageNet network's first layer, an odd number; 0: as the name says.");
    p("halve_at", &KernelnetOptions::halve_at, at_least(1), unit("layers"),
      "Convolutions with stride 2, counted from 1. Left out: the first one of each width but the first, and 8 and 14 "
      "where all widths are equal. The first layer of ImageNet networks halves the image twice in any case.");
    p("batch_norm", &KernelnetOptions::batch_norm,
      "Whether a batch norm follows each convolution. If not, it has a bias.");
    p("norm_eps", &KernelnetOptions::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

namespace {

// Convolutions of one width and size: an entry of Table 2.
struct Entry {
  int64_t width = 0, kernel = 0, count = 0;
};
struct Table {
  bool imagenet = false;  // the first layer has stride 2 and a pooling behind it (001-X6)
  std::vector<Entry> entries;
  std::vector<int64_t> halve_at;  // convolutions, from 1
};

// Table 2 of paper 001, which says nothing of strides: those of the residual networks of He et al. 2016 are taken,
// where the width grows (001-X5, 001-X6).
const Table imagenet7{true, {{64, 7, 1}, {64, 3, 2}, {128, 3, 2}, {256, 3, 2}}, {4, 6}};
const Table imagenet17{true, {{64, 7, 1}, {64, 3, 4}, {128, 3, 4}, {256, 3, 4}, {512, 3, 4}}, {6, 10, 14}};
const Table cifar19{false, {{16, 3, 7}, {32, 3, 6}, {64, 3, 6}}, {8, 14}};
const Table cifar18x5{false, {{64, 5, 18}}, {8, 14}};

struct Builder {
  GraphBuilder g;
  const KernelnetOptions& o;

  Edge conv(const std::string& n, Edge x, int64_t filters, int64_t kernel, int64_t stride) {
    x = g.conv("conv" + n, x,
               {.filters = filters,
                .kernel = kernel,
                .stride = stride,
                .padding = kernel / 2,
                .bias = !o.batch_norm,
                .init = "kaiming_normal_in"});
    return o.batch_norm ? g.batch_norm("bn" + n, x, {.eps = o.norm_eps}) : x;
  }
  Edge shortcut(Edge x, int64_t width, int64_t stride) {
    if (stride == 1 && g.channels(x) == width) return x;
    if (o.shortcut == "A") return g.pad_or_crop(x, width, stride);
    x = g.conv("downsample.0", x,
               {.filters = width, .kernel = 1, .stride = stride, .bias = !o.batch_norm, .init = "kaiming_normal_in"});
    return o.batch_norm ? g.batch_norm("downsample.1", x, {.eps = o.norm_eps}) : x;
  }
};

template <const Table& table>
Graph kernelnet(const KernelnetOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (o.kernel % 2 == 0 && o.kernel > 0)
    throw Error("'kernel' is " + std::to_string(o.kernel) +
                ": an even kernel would make images smaller; give an odd number");
  std::vector<Entry> convs;
  for (const Entry& e : table.entries) convs.insert(convs.end(), static_cast<size_t>(e.count), e);
  if (o.layers > 0) convs.resize(static_cast<size_t>(o.layers), convs.back());
  const std::vector<int64_t> halves = o.halve_at.value_or(table.halve_at);
  for (const int64_t n : o.halve_at.value_or(std::vector<int64_t>{})) {
    if (n > std::ssize(convs))
      throw Error("'halve_at' names convolution " + std::to_string(n) + ", and there are " +
                  std::to_string(convs.size()));
  }
  const auto width = [&](size_t i) {
    return std::max<int64_t>(1, std::llround(static_cast<double>(convs[i].width) * o.width));
  };
  const auto kernel = [&](size_t i) {
    return o.kernel > 0 && !(table.imagenet && i == 0) ? o.kernel : convs[i].kernel;
  };
  const auto stride = [&](size_t i) {
    return std::ranges::find(halves, static_cast<int64_t>(i) + 1) == halves.end() ? int64_t{1} : int64_t{2};
  };
  Builder b{GraphBuilder(input), o};
  GraphBuilder& g = b.g;
  Edge x = g.relu(b.conv("1", g.input(), width(0), kernel(0), table.imagenet ? 2 : stride(0)));
  if (table.imagenet) x = g.max_pool(x, 3, 2, 1);
  for (size_t i = 1, block = 1; i < convs.size(); i += 2, ++block) {
    const auto scope = g.scope("block" + std::to_string(block));
    // A last one without a partner has no shortcut.
    if (i + 1 == convs.size()) {
      x = g.relu(b.conv("1", x, width(i), kernel(i), stride(i)));
      break;
    }
    // The shortcut comes first, so that batch norm, sum and ReLU at the end can be one pass.
    const Edge past = o.residual ? b.shortcut(x, width(i + 1), stride(i) * stride(i + 1)) : x;
    const Edge inner = g.relu(b.conv("1", x, width(i), kernel(i), stride(i)));
    const Edge y = b.conv("2", inner, width(i + 1), kernel(i + 1), stride(i + 1));
    x = g.relu(o.residual ? g.add(y, past) : y);
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

}  // namespace

ESPALIER_PLUGIN("kernelnet", "1.0.0",
                backbone<KernelnetOptions>("kernelnet_imagenet7", "7 convolutions for ImageNet (paper 001, table 2)",
                                           kernelnet<imagenet7>),
                backbone<KernelnetOptions>("kernelnet_imagenet17", "17 convolutions for ImageNet (paper 001, table 2)",
                                           kernelnet<imagenet17>),
                backbone<KernelnetOptions>("kernelnet_cifar19", "19 convolutions of 3x3 for CIFAR (paper 001, table 2)",
                                           kernelnet<cifar19>),
                backbone<KernelnetOptions>("kernelnet_cifar18x5",
                                           "18 convolutions of 64 5x5 kernels for CIFAR (paper 001, table 2)",
                                           kernelnet<cifar18x5>));

}  // namespace espalier
