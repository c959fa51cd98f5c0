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

}  // namespace
}  // namespace espalier
