#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Vgg16, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvgg16.so");
  // The 14.99 M network of the pruning papers (paper 000: 14.99 M, .313 G), without and with convolution bias.
  const Graph g = testkit::build(R"({"use": "vgg16"})", {3, 32, 32}, {10});
  EXPECT_EQ(g.parameter_count(), 14'987'722);
  EXPECT_EQ(g.macs(), 313'463'808);
  EXPECT_EQ(testkit::build(R"({"use": "vgg16", "conv_bias": true})", {3, 32, 32}, {10}).parameter_count(), 14'991'946);
}

TEST(Vgg16, WidensEveryConvolution) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvgg16.so");
  const Graph g = testkit::build(R"({"use": "vgg16", "width": 0.25})", {3, 32, 32}, {10});
  EXPECT_EQ(g[g.axis("conv1")].size, 16);
  EXPECT_EQ(g[g.axis("conv13")].size, 128);
}

}  // namespace
}  // namespace espalier
