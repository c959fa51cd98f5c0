#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct @CLASS@Options {
  int64_t width = 32;

  static void declare(Declare<@CLASS@Options>& p) {
    p("width", &@CLASS@Options::width, at_least(1), "filters of the first convolution; the second has twice as many");
  }
};

// Two convolutions with batch norm, the mean of each channel, one linear layer.
Graph build(const @CLASS@Options& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  Edge x = g.input();
  x = g.relu(g.batch_norm("bn1", g.conv("conv1", x, {.filters = o.width, .kernel = 3, .padding = 1, .bias = false})));
  x = g.max_pool(x, 2);
  x = g.conv("conv2", x, {.filters = 2 * o.width, .kernel = 3, .padding = 1, .bias = false});
  x = g.relu(g.batch_norm("bn2", x));
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

ESPALIER_PLUGIN("@NAME@", "0.1.0", backbone<@CLASS@Options>("@NAME@", "two convolutions and a linear layer", build));

}  // namespace espalier
