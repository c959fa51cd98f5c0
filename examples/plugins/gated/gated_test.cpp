#include <cmath>

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/groups.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Gated, ComputesItsFormula) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgated.so");
  Graph g;
  const Edge a = g.add_input("a", {Dim::of(int64_t{2})}), b = g.add_input("b", {Dim::of(int64_t{2})});
  const int32_t node =
      g.add_node("unit", Registry::instance().create<Operation>(from_json(R"({"use": "gated"})")), {a, b});
  g.add_output("y", g.nodes()[static_cast<size_t>(node)].outputs[0]);
  const Weights weights(g, at::kDouble, at::kCPU);
  const at::Tensor x = testkit::target_of(5, 4, 1).to(at::kDouble).reshape({2, 1, 2});
  const at::Tensor y = run(g, weights, {{"a", x[0]}, {"b", x[1]}}, {"y"})[0];
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_NEAR(y[0][i].item<double>(), x[0][0][i].item<double>() / (1 + std::exp(-x[1][0][i].item<double>())), 1e-12);
}

// A filter whose values are zero can go, together with its gate.
TEST(Gated, LosesAFilterAndItsGateTogether) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgated.so");
  Graph g = testkit::build(R"({"use": "gated_network", "width": 4})", {1, 6, 6}, {3});
  Weights weights(g, at::kDouble, at::kCPU);
  weights.initialize(g, RandomKey(1));
  {
    const c10::NoGradGuard no_grad;
    at::Tensor(weights[g.parameter("first.value.weight")])[2].zero_();
    at::Tensor(weights[g.parameter("first.value.bias")])[2].zero_();
  }
  const at::Tensor x = testkit::input_of(g, 3, 2);
  const at::Tensor before = run(g, weights, {{"input", x}}, {"logits"})[0].detach();
  apply(g, {&weights}, {shrink(g, g.axis("first.value"), {0, 1, 3})});
  EXPECT_EQ(weights[g.parameter("first.gate.weight")].size(0), 3);
  EXPECT_TRUE(run(g, weights, {{"input", x}}, {"logits"})[0].allclose(before, 1e-12, 1e-12));
}

}  // namespace
}  // namespace espalier
