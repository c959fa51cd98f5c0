#include <gtest/gtest.h>

#include <espalier/error.h>
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

// Paper 000's seed: 16 filters everywhere, four poolings, so that 2 x 2 positions are flattened.
TEST(Vgg16, TakesWidthsAndTheNumberOfPoolings) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvgg16.so");
  const Graph g = testkit::build(R"({"use": "vgg16", "widths": [16], "pools": 4, "conv_bias": true, "dropout": 0.5})",
                                 {3, 32, 32}, {10});
  const int64_t norms = 13 * 2 * 16 + 2 * 512;
  EXPECT_EQ(g.parameter_count(), (27 * 16 + 16) + 12 * (9 * 16 * 16 + 16) + norms + (4 * 16 * 512 + 512) + 5130);
  const Graph each =
      testkit::build(R"({"use": "vgg16", "widths": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]})", {3, 32, 32}, {10});
  EXPECT_EQ(each[each.axis("conv13")].size, 13);
  EXPECT_THROW(testkit::build(R"({"use": "vgg16", "widths": [1, 2]})", {3, 32, 32}, {10}), Error);
}

}  // namespace
}  // namespace espalier
