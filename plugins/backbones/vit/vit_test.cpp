#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Vit, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  const Graph g = testkit::build(R"({"use": "vit_tiny"})", {3, 224, 224}, {1000});
  EXPECT_EQ(g.parameter_count(), 5'717'416);  // DeiT-Ti's
  const int64_t block = 12 * 192 * 192 * 197 + 2 * 197 * 197 * 192;
  EXPECT_EQ(g.macs(), 196 * 192 * 768 + 12 * block + 192 * 1000);
}

// Touvron et al. 2021, table 1: 5 M, 22 M and 86 M; as timm counts them.
TEST(Vit, HasTheSizesOfThePaper) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  const auto count = [](const std::string& spec) {
    return testkit::build(spec, {3, 224, 224}, {1000}).parameter_count();
  };
  for (const std::string family : {"vit", "deit"}) {
    EXPECT_EQ(count(R"({"use": ")" + family + R"(_tiny"})"), 5'717'416);
    EXPECT_EQ(count(R"({"use": ")" + family + R"(_small"})"), 22'050'664);
    EXPECT_EQ(count(R"({"use": ")" + family + R"(_base"})"), 86'567'656);
  }
  // A token, its position, and a head.
  const Graph distilled = testkit::build(R"({"use": "deit_tiny", "distillation": true})", {3, 224, 224}, {1000});
  EXPECT_EQ(distilled.parameter_count(), 5'717'416 + 2 * 192 + 193 * 1000);
  for (const char* output : {"logits", "class", "distillation"}) {
    ASSERT_TRUE(distilled.find_output(output)) << output;
    EXPECT_EQ(distilled.sizes(distilled[distilled.output(output)].shape), Indices{1000});
  }
}

TEST(Vit, TakesSmallImages) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  const Graph g = testkit::build(R"({"use": "vit_tiny", "patch": 4})", {3, 32, 32}, {10});
  EXPECT_EQ(g.sizes(g[g.parameter("embed.position")].shape), (Indices{65, 192}));
}

}  // namespace
}  // namespace espalier
