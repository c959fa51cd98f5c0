#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(MobilenetV2, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmobilenet_v2.so");
  const Graph g = testkit::build(R"({"use": "mobilenet_v2"})", {3, 224, 224}, {1000});
  EXPECT_EQ(g.parameter_count(), 3'504'872);  // torchvision's
  EXPECT_EQ(g.macs(), 300'774'272);
  EXPECT_EQ(testkit::build(R"({"use": "mobilenet_v2"})", {3, 224, 224}, {20}).parameter_count(),
            3'504'872 - 980 * 1281);
}

TEST(MobilenetV2, DepthwiseConvolutionsShareTheExpandedAxis) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmobilenet_v2.so");
  const Graph g = testkit::build(R"({"use": "mobilenet_v2", "width": 0.5, "stem": "cifar"})", {3, 32, 32}, {10});
  const Axis expanded = g.axis("blocks.3.expand");
  EXPECT_EQ(g.producers(expanded).size(), 2U);
  EXPECT_TRUE(g[g.parameter("blocks.3.depthwise.weight")].shape[0].reads(expanded));
  EXPECT_TRUE(g[g.parameter("blocks.3.project.weight")].shape[1].reads(expanded));
}

}  // namespace
}  // namespace espalier
