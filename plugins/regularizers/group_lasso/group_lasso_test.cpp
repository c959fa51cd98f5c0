#include "../regularizer_reference.h"

namespace espalier {
namespace {

TEST(GroupLasso, IsTheSumOfTheNormsOfFiltersAndUnitsWithoutTheLastLayer) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    RegularizerBench b("group_lasso", R"({"use": "group_lasso", "weight": 0.5})", dtype);
    double expected = 0;
    for (int64_t k = 0; k < 4; ++k) expected += 0.5 * b.weight("conv.weight")[k].norm().item<double>();
    for (int64_t k = 0; k < 5; ++k) expected += 0.5 * b.weight("fc1.weight")[k].norm().item<double>();
    EXPECT_NEAR(b.add(), expected, dtype == at::kDouble ? 1e-12 : 1e-5);
    for (const char* name : {"fc2.weight", "conv.bias", "fc1.bias", "bn.weight"})
      EXPECT_EQ(b.gradient(name).abs().max().item<double>(), 0) << name;
  }
}

TEST(GroupLasso, GradientEqualsFiniteDifferencesAndIsZeroAtZero) {
  RegularizerBench b("group_lasso", R"({"use": "group_lasso", "weight": 0.3})");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights), 1e-6);
  at::Tensor(b.weight("conv.weight"))[2].zero_();
  b.weights->zero_gradients();
  b.add();
  EXPECT_EQ(b.gradient("conv.weight")[2].abs().max().item<double>(), 0);
  EXPECT_NEAR(b.gradient("conv.weight")[1].norm().item<double>(), 0.3, 1e-12);
}

TEST(GroupLasso, FollowsItsSelectorAndEdits) {
  RegularizerBench b("group_lasso", R"({"use": "group_lasso", "weight": 1, "on": "conv"})");
  apply(b.graph, {b.weights.get()}, shrink(b.graph, b.graph.axis("conv"), {3}));
  b.regularizer->attach(b.graph, *b.weights);
  EXPECT_NEAR(b.add(), b.weight("conv.weight").norm().item<double>(), 1e-12);
}

}  // namespace
}  // namespace espalier
