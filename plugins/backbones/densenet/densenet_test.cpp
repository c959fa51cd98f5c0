#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph densenet(const std::string& spec) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdensenet.so");
  return testkit::build(spec, {3, 32, 32}, {10});
}

TEST(Densenet, HasThePublishedCounts) {
  EXPECT_EQ(densenet(R"({"use": "densenet_bc100"})").parameter_count(), 769'162);  // 0.8 M in the paper's table 2
  // 1.0 M there: three blocks of 12 layers, on 16 + 12 i channels with 2 batch norm parameters and 9 * 12 weights each.
  int64_t count = 3 * 9 * 16 + 448 * 2 + 448 * 10 + 10;
  int64_t channels = 16;
  for (int block = 0; block < 3; ++block) {
    if (block > 0) count += 2 * channels + channels * channels;
    for (int layer = 0; layer < 12; ++layer, channels += 12) count += 2 * channels + 9 * 12 * channels;
  }
  EXPECT_EQ(densenet(R"({"use": "densenet40"})").parameter_count(), count);
  EXPECT_NEAR(static_cast<double>(count), 1.0e6, 0.05e6);
}

// As torchvision counts it; 2.83 G multiply-accumulates.
TEST(Densenet, OfImagenetHasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdensenet.so");
  const Graph g = testkit::build(R"({"use": "densenet121"})", {3, 224, 224}, {1000});
  EXPECT_EQ(g.parameter_count(), 7'978'856);
  EXPECT_NEAR(static_cast<double>(g.macs()), 2.83e9, 0.01e9);
}

TEST(Densenet, LayersReadTheSegmentsOfAllBefore) {
  const Graph g = densenet(R"({"use": "densenet40", "growth": 3})");
  const Dim& inputs = g[g.parameter("dense1.2.conv1.weight")].shape[1];
  ASSERT_EQ(inputs.segments.size(), 3U);
  EXPECT_EQ(inputs, g[g.parameter("dense1.2.norm1.bias")].shape[0]);
  EXPECT_TRUE(inputs.reads(g.axis("dense1.1.conv1")));
}

}  // namespace
}  // namespace espalier
