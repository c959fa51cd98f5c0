#include <array>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

double output(const Graph& g, const Weights& w, const char* name) {
  return run(g, w, {}, {name})[0].item<double>();
}

// Paper 003, example 2.4: L_a = w^2 - 2 alpha w + alpha^2 and L_p = alpha w - 2 alpha + 1.
TEST(Solvable, HasTheLossesOfTheExample) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsolvable.so");
  const Graph g = testkit::build(R"({"use": "solvable"})", {.channels = 3}, {.outputs = 2});
  EXPECT_EQ(g.parameter_count(), 2 + 3 * 2 + 2);
  Weights weights(g, at::kDouble, at::kCPU);
  for (const auto& [w, alpha] : {std::array{0., 0.}, {-2., 2.}, {1., 1.}, {0.5, -3.}}) {
    {
      const c10::NoGradGuard no_grad;
      weights[g.parameter("w.value")].detach().fill_(w);
      weights[g.parameter("alpha.value")].detach().fill_(alpha);
    }
    EXPECT_DOUBLE_EQ(output(g, weights, "auxiliary"), w * w - 2 * alpha * w + alpha * alpha);
    EXPECT_DOUBLE_EQ(output(g, weights, "primary"), alpha * w - 2 * alpha + 1);
    weights.zero_gradients();
    run(g, weights, {}, {"primary"})[0].backward();
    EXPECT_DOUBLE_EQ(weights.gradient(g.parameter("w.value")).item<double>(), alpha);
    EXPECT_DOUBLE_EQ(weights.gradient(g.parameter("alpha.value")).item<double>(), w - 2);
  }
}

TEST(Solvable, TakesOtherQuadraticLossesOfSixNumbers) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsolvable.so");
  const Graph g = testkit::build(R"({"use": "solvable", "w": 2, "alpha": 3, "primary": [1, 10, 100, 1000, 1e4, 1e5]})",
                                 {.channels = 1, .height = 8, .width = 8}, {.outputs = 2});
  Weights weights(g, at::kDouble, at::kCPU);
  weights.initialize(g, RandomKey(1));
  EXPECT_EQ(output(g, weights, "primary"), 4 + 60 + 900 + 2000 + 30000 + 100000);
  try {
    testkit::build(R"({"use": "solvable", "primary": [1, 2]})", {.channels = 3}, {.outputs = 2});
    ADD_FAILURE() << "two numbers are refused";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("six numbers"));
  }
}

}  // namespace
}  // namespace espalier
