#include "../regularizer_reference.h"

namespace espalier {
namespace {

TEST(KernelNumber, IsTheSumOfTheNormsOfFiltersAndUnitsWithoutTheLastLayer) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    RegularizerBench b("kernel_sparsity", R"({"use": "kernel_number", "weight": 0.5})", dtype);
    double expected = 0;
    for (int64_t k = 0; k < 4; ++k) expected += 0.5 * b.weight("conv.weight")[k].norm().item<double>();
    for (int64_t k = 0; k < 5; ++k) expected += 0.5 * b.weight("fc1.weight")[k].norm().item<double>();
    EXPECT_NEAR(b.add(), expected, dtype == at::kDouble ? 1e-12 : 1e-5);
    for (const char* name : {"fc2.weight", "conv.bias", "fc1.bias", "bn.weight"})
      EXPECT_EQ(b.gradient(name).abs().max().item<double>(), 0) << name;
  }
}

TEST(KernelNumber, GradientEqualsFiniteDifferencesAndIsZeroAtZero) {
  RegularizerBench b("kernel_sparsity", R"({"use": "kernel_number", "weight": 0.3})");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights), 1e-6);
  at::Tensor(b.weight("conv.weight"))[2].zero_();
  b.weights->zero_gradients();
  b.add();
  EXPECT_EQ(b.gradient("conv.weight")[2].abs().max().item<double>(), 0);
  EXPECT_NEAR(b.gradient("conv.weight")[1].norm().item<double>(), 0.3, 1e-12);
}

// The k-th filters of all groups are one term, since they can only go together.
TEST(KernelNumber, CountsTheFiltersOfAllGroupsTogether) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_sparsity.so");
  GraphBuilder b({4, 6, 6});
  const Edge x = b.conv("first", b.input(), {.filters = 4, .kernel = 1});
  const Graph g = b.output(b.linear("fc", b.flatten(b.conv("conv", x, {.filters = 6, .groups = 2})), {.features = 3}));
  Weights weights(g, at::kDouble, at::kCPU);
  weights.initialize(g, RandomKey(4));
  const auto lasso =
      Registry::instance().create<Regularizer>(from_json(R"({"use": "kernel_number", "weight": 0.5, "on": "conv"})"));
  lasso->attach(g, weights);
  at::Tensor value = at::zeros({}, at::kDouble);
  lasso->add(g, weights, value);
  const at::Tensor w = weights[g.parameter("conv.weight")].detach();
  double expected = 0;
  for (int64_t k = 0; k < 3; ++k)
    expected += 0.5 * std::hypot(w[k].norm().item<double>(), w[3 + k].norm().item<double>());
  EXPECT_NEAR(value.item<double>(), expected, 1e-12);
  weights.zero_gradients();
  EXPECT_LE(testkit::gradient_error(*lasso, g, weights), 1e-6);
}

TEST(KernelNumber, OfColumnsIsTheSumOfTheNormsOfInputs) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    RegularizerBench b("kernel_sparsity", R"({"use": "kernel_number", "weight": 0.5, "groups": "columns"})", dtype);
    double expected = 0;
    for (const char* name : {"conv.weight", "fc1.weight", "fc2.weight"}) {
      const at::Tensor w = b.weight(name);
      for (int64_t c = 0; c < w.size(1); ++c) expected += 0.5 * w.select(1, c).norm().item<double>();
    }
    EXPECT_NEAR(b.add(), expected, dtype == at::kDouble ? 1e-12 : 1e-5);
  }
  RegularizerBench b("kernel_sparsity", R"({"use": "kernel_number", "weight": 0.3, "groups": "columns"})");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights), 1e-6);
  at::Tensor(b.weight("fc2.weight")).select(1, 3).zero_();
  b.weights->zero_gradients();
  b.add();
  EXPECT_EQ(b.gradient("fc2.weight").select(1, 3).abs().max().item<double>(), 0);
  EXPECT_NEAR(b.gradient("fc2.weight").select(1, 1).norm().item<double>(), 0.3, 1e-12);
  EXPECT_NEAR(b.gradient("conv.weight").select(1, 0).norm().item<double>(), 0.3, 1e-12);
}

TEST(KernelNumber, FollowsItsSelectorAndEdits) {
  RegularizerBench b("kernel_sparsity", R"({"use": "kernel_number", "weight": 1, "on": "conv"})");
  apply(b.graph, {b.weights.get()}, shrink(b.graph, b.graph.axis("conv"), {3}));
  b.regularizer->attach(b.graph, *b.weights);
  EXPECT_NEAR(b.add(), b.weight("conv.weight").norm().item<double>(), 1e-12);
}

}  // namespace
}  // namespace espalier
