#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct LeNet5Options {
  int64_t conv1 = 20, conv2 = 50, hidden = 500;

  static void declare(Declare<LeNet5Options>& p) {
    p("conv1", &LeNet5Options::conv1, at_least(1), "Filters of the first convolution.");
    p("conv2", &LeNet5Options::conv2, at_least(1), "Filters of the second convolution.");
    p("hidden", &LeNet5Options::hidden, at_least(1), "Units of the hidden layer.");
  }
};

// LeCun et al. 1998 in the 20-50-500 form: two 5x5 convolutions, each with 2x2 max pooling, then two linear layers.
Graph lenet5(const LeNet5Options& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  Edge x = g.input();
  x = g.max_pool(g.relu(g.conv("conv1", x, {.filters = o.conv1, .kernel = 5})), 2);
  x = g.max_pool(g.relu(g.conv("conv2", x, {.filters = o.conv2, .kernel = 5})), 2);
  x = g.relu(g.linear("fc1", g.flatten(x), {.features = o.hidden}));
  return g.output(g.linear("fc2", x, {.features = target.outputs}));
}

ESPALIER_PLUGIN("lenet5", "1.0.0",
                backbone<LeNet5Options>("lenet5", "LeNet-5 in the 20-50-500 form, widths settable", lenet5));

}  // namespace espalier
