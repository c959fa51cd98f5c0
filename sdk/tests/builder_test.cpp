// What GraphBuilder makes of parts of the channels.
#include "espalier/builder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// A linear layer of 6 features, of which the first half is weighted by the other half: a gated linear unit.
Graph gated_unit() {
  GraphBuilder g({5, 0, 0});
  const std::vector<Edge> parts = g.chunk(g.linear("fc1", g.input(), {.features = 6}), 2);
  return g.output(g.linear("fc2", g.multiply(parts[0], g.activation("sigmoid", parts[1])), {.features = 2}));
}

at::Tensor logits(const Graph& g, const Weights& w, const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  return run(g, w, {{"input", x}}, {"logits"})[0];
}

at::Tensor value(const Graph& g, const Weights& w, const std::string& name) {
  return w[g.parameter(name)].detach();
}

class GatedUnit : public ::testing::Test {
 protected:
  GatedUnit() : graph(gated_unit()), weights(graph, at::kDouble, at::kCPU) {
    weights.initialize(graph, RandomKey(1));
    x = testkit::input_of(graph, 4, 2);
  }
  // As PyTorch would compute it, from these rows of the first layer and columns of the second.
  at::Tensor expected(const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2, const at::Tensor& b2) const {
    const at::Tensor h = at::linear(x, w1, b1);
    const int64_t half = h.size(1) / 2;
    return at::linear(h.narrow(1, 0, half) * at::sigmoid(h.narrow(1, half, half)), w2, b2);
  }
  void expect_equal(const at::Tensor& wanted) const {
    EXPECT_LE((logits(graph, weights, x) - wanted).abs().max().item<double>(), 1e-14);
  }
  Graph graph;
  Weights weights;
  at::Tensor x;
};

TEST_F(GatedUnit, ComputesWithTheHalvesOfTheChannels) {
  const auto v = [&](const char* name) { return value(graph, weights, name); };
  expect_equal(expected(v("fc1.weight"), v("fc1.bias"), v("fc2.weight"), v("fc2.bias")));
}

// The two halves are multiplied, so they have one width. What reads a removed unit goes with it, and the first layer
// keeps the rows until its own units are removed.
TEST_F(GatedUnit, LosesAUnitOfBothHalvesWithTheColumnThatReadsIt) {
  const at::Tensor keep = at::tensor(std::vector<int64_t>{0, 2});
  const auto v = [&](const char* name) { return value(graph, weights, name).clone(); };
  const at::Tensor rows = at::cat({keep, keep + 3});
  const at::Tensor wanted = expected(v("fc1.weight").index_select(0, rows), v("fc1.bias").index_select(0, rows),
                                     v("fc2.weight").index_select(1, keep), v("fc2.bias"));
  const Axis width = graph[graph.parameter("fc2.weight")].shape[1].whole();
  apply(graph, {&weights}, shrink(graph, width, {0, 2}));
  EXPECT_EQ(value(graph, weights, "fc2.weight").size(1), 2);
  EXPECT_EQ(value(graph, weights, "fc1.weight").size(0), 6);
  expect_equal(wanted);
}

TEST_F(GatedUnit, LosesTheUnitsThatReadWhatTheFirstLayerLoses) {
  const at::Tensor keep = at::tensor(std::vector<int64_t>{0, 2});
  const auto v = [&](const char* name) { return value(graph, weights, name).clone(); };
  const at::Tensor rows = at::cat({keep, keep + 3});
  const at::Tensor wanted = expected(v("fc1.weight").index_select(0, rows), v("fc1.bias").index_select(0, rows),
                                     v("fc2.weight").index_select(1, keep), v("fc2.bias"));
  apply(graph, {&weights}, shrink(graph, graph.axis("fc1"), {0, 2, 3, 5}));
  EXPECT_EQ(value(graph, weights, "fc1.weight").size(0), 4);
  EXPECT_EQ(value(graph, weights, "fc2.weight").size(1), 2);
  expect_equal(wanted);
}

TEST(Builder, SplitsChannelsOfAnImageInOrder) {
  GraphBuilder g({6, 2, 2});
  const std::vector<Edge> parts = g.split(g.input(), {1, 3, 2});
  Graph graph = g.output(g.flatten(g.concat({parts[2], parts[0], parts[1]})));
  const Weights weights(graph, at::kDouble, at::kCPU);
  const at::Tensor x = testkit::input_of(graph, 3, 1);
  const at::Tensor moved = at::cat({x.narrow(1, 4, 2), x.narrow(1, 0, 1), x.narrow(1, 1, 3)}, 1).flatten(1);
  EXPECT_TRUE(logits(graph, weights, x).equal(moved));
}

TEST(Builder, FactorsAWidthIntoGroupsThatEditsTakeWhole) {
  GraphBuilder g({3, 0, 0});
  const Edge x = g.linear("fc1", g.input(), {.features = 6});
  g.factor(x, 3);
  Graph graph = g.output(g.linear("fc2", x, {.features = 2}));
  Weights weights(graph, at::kDouble, at::kCPU);
  weights.initialize(graph, RandomKey(1));
  const at::Tensor before = value(graph, weights, "fc1.weight").clone();
  const Segment& s = graph[graph.parameter("fc1.weight")].shape[0].segments[0];
  ASSERT_EQ(s.factors.size(), 2U);
  // The middle one of three groups of two goes.
  apply(graph, {&weights}, shrink(graph, s.factors[0].axis, {0, 2}));
  EXPECT_TRUE(value(graph, weights, "fc1.weight").equal(at::cat({before.narrow(0, 0, 2), before.narrow(0, 4, 2)})));
  EXPECT_EQ(value(graph, weights, "fc2.weight").size(1), 4);
}

std::string refusal(const std::function<void(GraphBuilder&, Edge)>& of) {
  GraphBuilder g({3, 0, 0});
  const Edge x = g.linear("fc1", g.input(), {.features = 6});
  try {
    of(g, x);
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(Builder, RefusesPartsThatDoNotFit) {
  EXPECT_THAT(refusal([](GraphBuilder& g, Edge x) {
                g.split(x, {2, 3});
              }),
              HasSubstr("5 in all, of 'fc1', which has 6"));
  EXPECT_THAT(refusal([](GraphBuilder& g, Edge x) { g.split(x, {7, -1}); }), HasSubstr("at least one"));
  EXPECT_THAT(refusal([](GraphBuilder& g, Edge x) { g.chunk(x, 4); }), HasSubstr("'fc1', which has 6 channels"));
  EXPECT_THAT(refusal([](GraphBuilder& g, Edge x) { g.factor(x, 4); }), HasSubstr("cannot be split into 4 groups"));
  EXPECT_THAT(refusal([](GraphBuilder& g, Edge x) {
                g.factor(x, 2);
                g.factor(x, 3);
              }),
              HasSubstr("not one axis"));
}

}  // namespace
}  // namespace espalier
