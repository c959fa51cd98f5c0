#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Regularizer> make(const std::string& spec) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarchitecture_cost.so");
  return Registry::instance().create<Regularizer>(from_json(spec));
}

double value(Regularizer& r, const Graph& graph, Weights& weights) {
  r.attach(graph, weights);
  at::Tensor sum = at::zeros({}, at::kDouble);
  weights.zero_gradients();
  r.add(graph, weights, sum);
  return sum.item<double>();
}

// The search network of NAS-Bench-201 with one cell in each stage of 4, 8 and 16 channels on images of 8 x 8, 4 x 4 and
// 2 x 2: of the operations none, skip, 1x1, 3x3 and pooling, an edge of c channels on n pixels has 0, 0, c c n, 9 c c n
// and 0 multiply-accumulates (norms and pooling have none in the graph's counts).
struct Cells {
  Cells() {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
    graph = testkit::build(R"({"use": "nasbench201_search", "channels": 4, "cells": 1})",
                           {.channels = 3, .height = 8, .width = 8}, {.outputs = 10});
    weights = std::make_unique<Weights>(graph, at::kDouble, at::kCPU);
    weights->initialize(graph, RandomKey(5));
    const c10::NoGradGuard no_grad;
    alpha().mul_(1000);  // of 1e-3
  }
  at::Tensor alpha() const { return (*weights)[graph.parameter("alpha.value")].detach(); }
  // The sum over the six edges of <softmax(row), costs>.
  double expected(const std::array<double, 5>& costs) const {
    const at::Tensor a = alpha().contiguous();
    const auto* x = a.const_data_ptr<double>();
    double sum = 0;
    for (int64_t row = 0; row < 6; ++row) {
      double all = 0, product = 0;
      for (size_t i = 0; i < 5; ++i) {
        const double e = std::exp(x[row * 5 + static_cast<int64_t>(i)]);
        all += e, product += e * costs[i];
      }
      sum += product / all;
    }
    return sum;
  }
  Graph graph;
  std::unique_ptr<Weights> weights;
};

TEST(ArchitectureCost, IsTheExpectedCostOfTheOperationsOfAllCells) {
  const Cells c;
  const double macs = (4. * 4 * 64 + 8. * 8 * 16 + 16. * 16 * 4) / 1e6, params = (4. * 4 + 8. * 8 + 16. * 16) / 1e6;
  // Rounding of some hundred sums in float64.
  EXPECT_NEAR(value(*make(R"({"use": "architecture_cost", "weight": 2})"), c.graph, *c.weights),
              2 * c.expected({0, 0, macs, 9 * macs, 0}), 1e-12);
  EXPECT_NEAR(value(*make(R"({"use": "architecture_cost", "cost": "params", "weight": 1})"), c.graph, *c.weights),
              c.expected({0, 0, params, 9 * params, 0}), 1e-12);
}

TEST(ArchitectureCost, ItsGradientIsThatOfFiniteDifferences) {
  const Cells c;
  const auto r = make(R"({"use": "architecture_cost", "weight": 10})");
  EXPECT_LT(testkit::gradient_error(*r, c.graph, *c.weights, 1e-5), 1e-7);
  value(*r, c.graph, *c.weights);
  EXPECT_EQ(c.weights->bank(Role::weight).gradients.flat().abs().sum().item<double>(), 0)
      << "it is of the architecture alone";
}

// Separable convolutions of DARTS are eight nodes; a skip costs nothing, and neither does pooling by parameters.
TEST(ArchitectureCost, CountsAllNodesOfAnOperationAndNoSharedOnes) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarchitecture_cost.so");
  GraphBuilder g({.channels = 3, .height = 6, .width = 6});
  const Edge x = g.conv("stem", g.input(), {.filters = 4, .kernel = 3, .padding = 1, .bias = false});
  Edge y = g.conv("a1", g.relu(x), {.filters = 5, .kernel = 1, .bias = false});
  y = g.conv("a2", y, {.filters = 4, .kernel = 3, .padding = 1, .bias = false});
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"initial", 0.0}}), {2}));
  g.unify({y, x});
  const Edge mixed = g.node("weighted_sum", "mixed", {y, x, alpha});
  const Graph graph = g.output(g.linear("fc", g.flatten(mixed), {.features = 3}));
  Weights w(graph, at::kDouble, at::kCPU);
  w.initialize(graph, RandomKey(1));
  const auto r = make(R"({"use": "architecture_cost", "cost": "params", "weight": 1e6})");
  EXPECT_NEAR(value(*r, graph, w), 0.5 * (4 * 5 + 5 * 4 * 9), 1e-9) << "half of the operation, and not of the stem";
}

TEST(ArchitectureCost, RefusesNetworksWithoutMixturesAndTablesOfOtherCosts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarchitecture_cost.so");
  GraphBuilder g({.channels = 3});
  const Graph graph = g.output(g.linear("fc", g.input(), {.features = 3}));
  Weights w(graph, at::kDouble, at::kCPU);
  const auto refusal = [&](const std::string& spec) -> std::string {
    try {
      make(spec)->attach(graph, w);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was refused";
  };
  EXPECT_THAT(refusal(R"({"use": "architecture_cost"})"), HasSubstr("no mixtures"));
  EXPECT_THAT(refusal(R"({"use": "architecture_cost", "table": "t.json"})"), HasSubstr("belong to the cost latency"));
  EXPECT_THAT(refusal(R"({"use": "architecture_cost", "cost": "latency"})"), HasSubstr("needs a 'table'"));
}

}  // namespace
}  // namespace espalier
