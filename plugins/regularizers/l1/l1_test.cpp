#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

TEST(L1, IsTheSumOfAbsoluteValuesWithItsGradient) {
  RegularizerBench b("l1", R"({"use": "l1", "weight": 0.3, "on": ["fc1.weight", "bn"]})");
  at::Tensor(b.weight("bn.weight"))[1] = -2.0;
  const double expected = 0.3 * (b.weight("fc1.weight").abs().sum().item<double>() + 5);
  EXPECT_NEAR(b.add(), expected, 1e-12);
  EXPECT_EQ(b.gradient("bn.weight")[1].item<double>(), -0.3);
  EXPECT_EQ(b.gradient("bn.bias").abs().max().item<double>(), 0) << "the subgradient at zero is zero";
  EXPECT_EQ(b.gradient("fc2.weight").abs().max().item<double>(), 0) << "not selected";
}

TEST(L1, GradientEqualsFiniteDifferences) {
  RegularizerBench b("l1", R"({"use": "l1", "weight": 0.3})");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights, 1e-7), 1e-6);
}

// The proximal step is the minimum of rate * weight * |v| + 1/2 (v - w)^2: it takes rate * weight from each size.
TEST(L1, ProximalStepMakesSmallNumbersExactlyZero) {
  RegularizerBench b("l1", R"({"use": "l1", "weight": 0.5, "on": ["bn.weight", "bn.bias"], "solver": "proximal"})");
  const c10::NoGradGuard no_grad;
  b.weight("bn.weight").copy_(at::tensor({-1.0, 0.09, 0.0, 0.11}, at::kDouble));
  b.weight("bn.bias").fill_(0.3);
  EXPECT_NEAR(b.add(), 0.5 * (1.2 + 4 * 0.3), 1e-12) << "the value is that of the penalty";
  EXPECT_EQ(b.gradient("bn.weight").abs().max().item<double>(), 0) << "it acts after the update alone";
  std::vector<double> rates(b.graph.parameters().size(), 0);
  rates[static_cast<size_t>(b.graph.parameter("bn.weight").id)] = 0.2;
  b.regularizer->after_update(b.graph, *b.weights, LearningRates(rates));
  const at::Tensor w = b.weight("bn.weight");
  EXPECT_NEAR(w[0].item<double>(), -0.9, 1e-15);
  EXPECT_EQ(w[1].item<double>(), 0);
  EXPECT_EQ(w[2].item<double>(), 0);
  EXPECT_NEAR(w[3].item<double>(), 0.01, 1e-15);
  EXPECT_EQ(b.weight("bn.bias")[0].item<double>(), 0.3) << "what the update left alone stays";
}

}  // namespace
}  // namespace espalier
