#include <algorithm>
#include <cmath>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct Vgg16Options {
  double width = 1;
  std::vector<int64_t> widths;
  int64_t pools = 5;
  bool conv_bias = false;
  std::vector<int64_t> hidden = {512};
  bool hidden_norm = true;
  double dropout = 0;
  double norm_eps = 1e-5;

  static void declare(Declare<Vgg16Options>& p) {
    p("width", &Vgg16Options::width, above(0), at_most(1000), "Factor on the filters of all convolutions.");
    p("widths", &Vgg16Options::widths, at_least(1),
      "Filters of each of the 13 convolutions, or one number for all. Left out: the usual numbers.");
    p("pools", &Vgg16Options::pools, at_least(4), at_most(5),
      "Number of 2x2 poolings; 4: none behind the last convolution, as in the code of paper 000.");
    p("conv_bias", &Vgg16Options::conv_bias, "Whether convolutions have a bias although a batch norm follows.");
    p("hidden", &Vgg16Options::hidden, at_least(1), "Units of each hidden layer; the original network has two.");
    p("hidden_norm", &Vgg16Options::hidden_norm, "Whether a batch norm follows each hidden layer.");
    p("dropout", &Vgg16Options::dropout, at_least(0), below(1), "Probability of a zero before each linear layer.");
    p("norm_eps", &Vgg16Options::norm_eps, above(0),
      "Number that batch norms add to the variance. Weights of other frameworks may need another one: "
      "TensorFlow's usual one is 1e-3.");
  }
};

// Simonyan & Zisserman 2015 for 32 x 32 images, as pruning papers use it: 13 convolutions of 3x3 with batch norm, five
// 2x2 poolings, one hidden layer of 512 with batch norm (14.99 M parameters).
Graph vgg16(const Vgg16Options& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  Edge x = g.input();
  const std::vector<std::vector<int64_t>> stages = {
      {64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}};
  if (o.widths.size() > 1 && o.widths.size() != 13)
    throw Error("'widths' has " + std::to_string(o.widths.size()) + " entries; 1 (for all) or 13 are needed");
  size_t layer = 0, pools = 0;
  for (const std::vector<int64_t>& stage : stages) {
    for (const int64_t usual : stage) {
      const int64_t width = o.widths.empty() ? usual : o.widths.size() == 1 ? o.widths[0] : o.widths[layer];
      const std::string n = std::to_string(++layer);
      const int64_t filters = std::max<int64_t>(1, std::llround(static_cast<double>(width) * o.width));
      x = g.conv("conv" + n, x,
                 {.filters = filters, .kernel = 3, .padding = 1, .bias = o.conv_bias, .init = "kaiming_normal_out"});
      x = g.relu(g.batch_norm("bn" + n, x, {.eps = o.norm_eps}));
    }
    if (static_cast<int64_t>(++pools) <= o.pools) x = g.max_pool(x, 2);
  }
  x = g.flatten(x);
  size_t linear = 0;
  for (const int64_t units : o.hidden) {
    const std::string n = std::to_string(++linear);
    if (o.dropout > 0) x = g.dropout(x, o.dropout);
    x = g.linear("fc" + n, x, {.features = units, .init = "normal"});
    if (o.hidden_norm) x = g.batch_norm("bn_fc" + n, x, {.eps = o.norm_eps});
    x = g.relu(x);
  }
  if (o.dropout > 0) x = g.dropout(x, o.dropout);
  return g.output(g.linear("fc" + std::to_string(linear + 1), x, {.features = target.outputs, .init = "normal"}));
}

ESPALIER_PLUGIN("vgg16", "1.0.0", backbone<Vgg16Options>("vgg16", "VGG-16 with batch norm in its CIFAR form", vgg16));

}  // namespace espalier
