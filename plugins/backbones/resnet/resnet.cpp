#include <espalier/backbone.h>
#include <espalier/plugin.h>

#include "resnet_body.h"

namespace espalier {

namespace {

// He et al. 2016 for ImageNet: four stages of basic blocks, or of bottlenecks, as in torchvision.
template <bool deep, int... counts>
Graph resnet(const ResnetOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge x = resnet_stages(g, g.input(), o, {.deep = deep, .counts = {counts...}}).back();
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

}  // namespace

ESPALIER_PLUGIN("resnet", "1.0.0",
                backbone<ResnetOptions>("resnet18", "ResNet-18 in its ImageNet form", resnet<false, 2, 2, 2, 2>),
                backbone<ResnetOptions>("resnet34", "ResNet-34 in its ImageNet form", resnet<false, 3, 4, 6, 3>),
                backbone<ResnetOptions>("resnet50", "ResNet-50 in its ImageNet form", resnet<true, 3, 4, 6, 3>),
                backbone<ResnetOptions>("resnet101", "ResNet-101 in its ImageNet form", resnet<true, 3, 4, 23, 3>),
                backbone<ResnetOptions>("resnet152", "ResNet-152 in its ImageNet form", resnet<true, 3, 8, 36, 3>));

}  // namespace espalier
