#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph resnext(const std::string& spec) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnext.so");
  return testkit::build(spec, {3, 32, 32}, {10});
}

TEST(Resnext, HasThePublishedCounts) {
  // Xie et al. 2017, table 7: 34.4 M and 68.1 M.
  EXPECT_EQ(resnext(R"({"use": "resnext29_8x64d"})").parameter_count(), 34'426'698);
  EXPECT_NEAR(static_cast<double>(resnext(R"({"use": "resnext29_16x64d"})").parameter_count()), 68.1e6, 0.1e6);
}

TEST(Resnext, BranchesAreAnAxis) {
  const Graph g = resnext(R"({"use": "resnext29_2x64d"})");
  const Axis branches = g.axis("layer1.1.conv2.groups");
  EXPECT_EQ(g[branches].size, 2);
  EXPECT_EQ(g[g.axis("layer1.1.conv1")].size, 64);
  EXPECT_TRUE(g[g.parameter("layer1.1.conv1.weight")].shape[0].reads(branches));
  EXPECT_TRUE(g[g.parameter("layer1.1.bn1.weight")].shape[0].reads(branches));
  EXPECT_TRUE(g[g.parameter("layer1.1.conv2.weight")].shape[0].reads(branches));
  EXPECT_FALSE(g[g.parameter("layer1.1.conv2.weight")].shape[1].reads(branches));
  EXPECT_TRUE(g[g.parameter("layer1.1.conv3.weight")].shape[1].reads(branches));
}

}  // namespace
}  // namespace espalier
