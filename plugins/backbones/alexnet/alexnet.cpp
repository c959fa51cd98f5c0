#include <algorithm>
#include <cmath>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct AlexnetOptions {
  double width = 1;
  double dropout = 0.5;

  static void declare(Declare<AlexnetOptions>& p) {
    p("width", &AlexnetOptions::width, above(0), at_most(1000), "Factor on all widths.");
    p("dropout", &AlexnetOptions::dropout, at_least(0), below(1),
      "Probability of dropout before both hidden linear layers.");
  }
};

namespace {

// Krizhevsky et al. 2012 as on two GPUs: the second, fourth and fifth convolution have two groups. Images are of 227 x
// 227 pixels, with which the sizes of the paper agree. Its local response normalization, which has no parameters, is
// left out, as Simonyan and Zisserman 2015 found it to be of no use.
Graph alexnet(const AlexnetOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  // Halves of the widths are those of a group.
  const auto scaled = [&](int64_t w) {
    return 2 * std::max<int64_t>(1, std::llround(static_cast<double>(w / 2) * o.width));
  };
  Edge x = g.relu(g.conv("conv1", g.input(), {.filters = scaled(96), .kernel = 11, .stride = 4}));
  x = g.max_pool(x, 3, 2);
  x = g.relu(g.conv("conv2", x, {.filters = scaled(256), .kernel = 5, .padding = 2, .groups = 2}));
  x = g.max_pool(x, 3, 2);
  x = g.relu(g.conv("conv3", x, {.filters = scaled(384), .kernel = 3, .padding = 1}));
  x = g.relu(g.conv("conv4", x, {.filters = scaled(384), .kernel = 3, .padding = 1, .groups = 2}));
  x = g.relu(g.conv("conv5", x, {.filters = scaled(256), .kernel = 3, .padding = 1, .groups = 2}));
  x = g.flatten(g.max_pool(x, 3, 2));
  for (const char* name : {"fc6", "fc7"}) {
    if (o.dropout > 0) x = g.dropout(x, o.dropout);
    x = g.relu(g.linear(name, x, {.features = scaled(4096)}));
  }
  return g.output(g.linear("fc8", x, {.features = target.outputs}));
}

}  // namespace

ESPALIER_PLUGIN("alexnet", "1.0.0",
                backbone<AlexnetOptions>("alexnet", "AlexNet with two groups, for images of 227 pixels", alexnet));

}  // namespace espalier
