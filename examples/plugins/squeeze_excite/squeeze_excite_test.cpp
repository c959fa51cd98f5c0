#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/edit.h>
#include <espalier/execute.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

class SqueezeExcite : public ::testing::Test {
 protected:
  static Graph network() {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsqueeze_excite.so");
    return testkit::build(R"({"use": "squeeze_excite", "width": 8, "reduction": 4})", {3, 8, 8}, {5});
  }
};

TEST_F(SqueezeExcite, HasTheParametersCountedByHand) {
  const int64_t first = 3 * 8 * 9 + 2 * 8 + (8 * 2 + 2) + (2 * 8 + 8);
  const int64_t second = 8 * 16 * 9 + 2 * 16 + (16 * 4 + 4) + (4 * 16 + 16);
  EXPECT_EQ(network().parameter_count(), first + second + 16 * 5 + 5);
}

// Two samples do not see each other, and a channel of one is weighted by that sample's own means.
TEST_F(SqueezeExcite, WeightsEachSampleByItself) {
  const Graph g = network();
  Weights weights(g, at::kDouble, at::kCPU);
  weights.initialize(g, RandomKey(1));
  const at::Tensor x = testkit::input_of(g, 2, 3);
  const at::Tensor both = run(g, weights, {{"input", x}}, {"logits"})[0];
  for (int64_t i = 0; i < 2; ++i) {
    const at::Tensor one = run(g, weights, {{"input", x.slice(0, i, i + 1)}}, {"logits"})[0];
    EXPECT_TRUE(one.allclose(both.slice(0, i, i + 1), 1e-12, 1e-12));
  }
}

TEST_F(SqueezeExcite, AChannelThatGoesTakesItsUnitAlong) {
  Graph g = network();
  Weights weights(g, at::kDouble, at::kCPU);
  apply(g, {&weights}, {shrink(g, g.axis("block1.conv"), {0, 1, 2, 4, 6})});
  EXPECT_EQ(weights[g.parameter("block1.excite.weight")].sizes().vec(), (std::vector<int64_t>{5, 2}));
  EXPECT_EQ(weights[g.parameter("block1.squeeze.weight")].sizes().vec(), (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(weights[g.parameter("block2.conv.weight")].size(1), 5);
}

}  // namespace
}  // namespace espalier
