#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Gcn, HasKipfAndWellingsCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgcn.so");
  // Cora: 2,708 nodes of 1,433 words, 7 classes, 16 hidden features.
  const Graph g = testkit::build(R"({"use": "gcn"})", {1433, 0, 0, 2708}, {7});
  EXPECT_EQ(g.parameter_count(), 1433 * 16 + 16 + 16 * 7 + 7);
  EXPECT_EQ(g.macs(), int64_t{2708} * (1433 * 16 + 16 * 7) + int64_t{2708} * 2708 * (16 + 7));
  EXPECT_EQ(testkit::build(R"({"use": "gcn", "hidden": [5, 6]})", {3, 8, 8}, {10}).parameter_count(),
            3 * 5 + 5 + 5 * 6 + 6 + 6 * 10 + 10);
}

}  // namespace
}  // namespace espalier
