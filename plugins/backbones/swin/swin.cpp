#include <espalier/backbone.h>
#include <espalier/plugin.h>

#include "swin_body.h"

namespace espalier {

namespace {

// Liu et al. 2021.
Graph swin(const SwinOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge x = swin_stages(g, g.input(), o, /*any_size=*/false).back();
  return g.output(g.linear("head", g.mean(g.layer_norm("norm", x, {.eps = o.norm_eps})),
                           {.features = target.outputs, .init = "normal", .init_std = 0.02}));
}

}  // namespace

ESPALIER_PLUGIN("swin", "1.0.0", backbone<SwinOptions>("swin_t", "Swin-T, attention in shifted windows", swin));

}  // namespace espalier
