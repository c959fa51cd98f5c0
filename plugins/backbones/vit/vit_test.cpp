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

TEST(Vit, TakesSmallImages) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  const Graph g = testkit::build(R"({"use": "vit_tiny", "patch": 4})", {3, 32, 32}, {10});
  EXPECT_EQ(g.sizes(g[g.parameter("embed.position")].shape), (Indices{65, 192}));
}

}  // namespace
}  // namespace espalier
