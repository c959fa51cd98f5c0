#include "../regularizer_reference.h"

namespace espalier {
namespace {

TEST(L2, IsHalfTheSumOfSquaresSoThatItsWeightIsAWeightDecay) {
  RegularizerBench b("l2", R"({"use": "l2", "weight": 0.5, "on": "fc1.weight"})");
  EXPECT_NEAR(b.add(), 0.25 * b.weight("fc1.weight").square().sum().item<double>(), 1e-12);
  EXPECT_LE((b.gradient("fc1.weight") - b.weight("fc1.weight") * 0.5).abs().max().item<double>(), 1e-15);
}

TEST(L2, GradientEqualsFiniteDifferences) {
  RegularizerBench b("l2", R"({"use": "l2", "weight": 0.3})");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights), 1e-6);
}

}  // namespace
}  // namespace espalier
