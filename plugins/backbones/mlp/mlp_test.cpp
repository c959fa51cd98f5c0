#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Mlp, IsLeNet300100ByDefault) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmlp.so");
  EXPECT_EQ(testkit::build(R"({"use": "mlp"})", {1, 28, 28}, {10}).parameter_count(),
            266'610);  // LeNet-300-100's published count
}

TEST(Mlp, TakesVectorsAndAnyDepth) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmlp.so");
  const Graph g =
      testkit::build(R"({"use": "mlp", "hidden": [5, 6, 7], "activation": "tanh", "dropout": 0.2})", {98, 0, 0}, {7});
  EXPECT_EQ(g.parameter_count(), 98 * 5 + 5 + 5 * 6 + 6 + 6 * 7 + 7 + 7 * 7 + 7);
  EXPECT_EQ(g.macs(), 98 * 5 + 5 * 6 + 6 * 7 + 7 * 7);
}

}  // namespace
}  // namespace espalier
