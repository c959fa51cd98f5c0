#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct Options {
  int64_t width = 16;
  int64_t reduction = 4;

  static void declare(Declare<Options>& p) {
    p("width", &Options::width, at_least(1), "Filters of the first block; each further one has twice as many.");
    p("reduction", &Options::reduction, at_least(1), "Channels of a block over the units of its squeezed layer.");
  }
};

// Multiplies each channel by a number between 0 and 1 that the means of all channels of the same sample decide
// (Hu, Shen and Sun, CVPR 2018). Its last layer has a unit for each channel: GraphBuilder::scale makes the two widths
// one, so that they grow and shrink together.
Edge squeeze_excite(GraphBuilder& g, Edge x, int64_t reduction) {
  const int64_t channels = g.channels(x);
  Edge s = g.relu(g.linear("squeeze", g.global_avg_pool(x), {.features = std::max<int64_t>(1, channels / reduction)}));
  s = g.activation("sigmoid", g.linear("excite", s, {.features = channels}));
  return g.scale(x, s);
}

Graph network(const Options& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  Edge x = g.input();
  for (int64_t block = 0; block < 2; ++block) {
    const auto scope = g.scope("block" + std::to_string(block + 1));
    x = g.conv("conv", x, {.filters = o.width << block, .kernel = 3, .padding = 1, .bias = false});
    x = squeeze_excite(g, g.relu(g.batch_norm("norm", x)), o.reduction);
    x = g.max_pool(x, 2);
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

ESPALIER_PLUGIN("squeeze_excite", "0.1.0",
                backbone<Options>("squeeze_excite",
                                  "two convolutions whose channels are weighted by squeeze and excitation", network));

}  // namespace espalier
