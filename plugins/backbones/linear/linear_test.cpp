#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(LinearBackbone, IsOneLayerOfImagesOrVectors) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  EXPECT_EQ(testkit::build(R"({"use": "linear"})", {1, 28, 28}, {10}).parameter_count(), 7850);
  EXPECT_EQ(testkit::build(R"({"use": "linear"})", {50, 0, 0}, {2}).parameter_count(), 102);
}

TEST(LinearBackbone, IsLinearRegressionWithOrWithoutABias) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  const TargetSpec values{.outputs = 3, .task = task::regression};
  EXPECT_EQ(testkit::build(R"({"use": "linear"})", {.channels = 7}, values).parameter_count(), 7 * 3 + 3);
  const Graph g = testkit::build(R"({"use": "linear", "bias": false})", {.channels = 7}, values);
  EXPECT_EQ(g.parameter_count(), 7 * 3);
  EXPECT_EQ(g.macs(), 7 * 3);
}

}  // namespace
}  // namespace espalier
