#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

class HoyerTest : public ::testing::Test {
 protected:
  HoyerTest() : graph_(network()), weights_(graph_, at::kDouble, at::kCPU) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libhoyer.so");
  }
  static Graph network() {
    GraphBuilder g({2, 6, 6});
    const Edge x = g.relu(g.conv("conv", g.input(), {.filters = 4, .kernel = 3}));
    return g.output(g.linear("fc", g.flatten(x), {.features = 3}));
  }
  Graph graph_;
  Weights weights_;
};

TEST_F(HoyerTest, GradientEqualsFiniteDifferences) {
  weights_.initialize(graph_, RandomKey(1));
  const auto hoyer = Registry::instance().create<Regularizer>(from_json(R"({"use": "hoyer", "weight": 0.5})"));
  EXPECT_LE(testkit::gradient_error(*hoyer, graph_, weights_), 1e-6);
}

// Between 1, where one weight has everything, and their number, where all are alike; whatever their size.
TEST_F(HoyerTest, CountsTheWeightsThatMatter) {
  const auto hoyer =
      Registry::instance().create<Regularizer>(from_json(R"({"use": "hoyer", "weight": 1, "on": "conv.weight"})"));
  const at::Tensor w = weights_[graph_.parameter("conv.weight")].detach();
  const auto value = [&] {
    at::Tensor v = at::zeros({}, at::kDouble);
    hoyer->add(graph_, weights_, v);
    return v.item<double>();
  };
  EXPECT_EQ(value(), 0);
  w.fill_(1e-3);
  EXPECT_NEAR(value(), 72, 1e-9);
  w.zero_();
  w[1][0][2][2] = -5;
  EXPECT_NEAR(value(), 1, 1e-12);
}

}  // namespace
}  // namespace espalier
