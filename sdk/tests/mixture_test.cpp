#include "espalier/mixture.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// Two mixtures that share a matrix of two rows and three columns; the second has its terms in another order. Behind
// them a gate whose coefficients are free, and one that a layer computes from the image.
Graph mixtures() {
  GraphBuilder g({4, 0, 0});
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"initial", 0}}), {2, 3}));
  const auto layer = [&](const char* name, Edge x) { return g.linear(name, x, {.features = 4}); };
  Edge x = g.input();
  std::vector<Edge> terms{layer("a0", x), layer("a1", x), layer("a2", x)};
  g.unify(terms);
  terms.push_back(alpha);
  x = g.node("weighted_sum", "first", terms, Value::map({{"row", 0}}));
  terms = {layer("b0", x), layer("b1", x)};
  g.unify(terms);
  terms.push_back(alpha);
  x = g.node("weighted_sum", "second", terms,
             Value::map({{"row", 1}, {"components", Value(std::vector<int64_t>{2, 0})}}));
  return g.output(g.linear("fc", x, {.features = 3}));
}

TEST(MixtureTerms, NameProducerAndCoefficientOfEachComponent) {
  const Graph g = mixtures();
  const std::vector<MixtureTerm> terms = mixture_terms(g);
  ASSERT_EQ(terms.size(), 5U);
  const char* producers[] = {"a0", "a1", "a2", "b0", "b1"};
  const int64_t rows[] = {0, 0, 0, 1, 1}, columns[] = {0, 1, 2, 2, 0};
  for (size_t i = 0; i < terms.size(); ++i) {
    EXPECT_EQ(g.nodes()[static_cast<size_t>(terms[i].producer)].name, producers[i]);
    EXPECT_EQ(g.nodes()[static_cast<size_t>(terms[i].node)].name, i < 3 ? "first" : "second");
    EXPECT_EQ(terms[i].input, i < 3 ? i : i - 3);
    EXPECT_EQ(terms[i].row, rows[i]);
    EXPECT_EQ(terms[i].column, columns[i]);
  }
}

TEST(CoefficientValues, AreThoseThatTheMixtureReads) {
  const Graph g = mixtures();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(1));
  const at::Tensor alpha = at::tensor({0.0, 1.0, 2.0, 3.0, -1.0, 0.5}).view({2, 3});
  w[g.parameter("alpha.value")].detach().copy_(alpha);
  const at::Tensor values = coefficient_values(g, w, mixture_terms(g).front().coefficients);
  ASSERT_EQ(values.scalar_type(), at::kDouble);
  // float32 in the graph.
  EXPECT_LE((values - alpha.to(at::kDouble).softmax(-1)).abs().max().item<double>(), 1e-6);
}

TEST(CoefficientValues, RefusesThoseThatDependOnTheSample) {
  GraphBuilder g({4, 0, 0});
  const Edge s = g.linear("s", g.input(), {.features = 4});
  const Edge x = g.linear("a", g.input(), {.features = 4});
  g.unify({s, x});
  const Graph graph = g.output(g.linear("fc", g.node("gate", "scale", {x, s}), {.features = 3}));
  const Weights w(graph, at::kFloat, at::kCPU);
  const std::vector<GateInfo> gates = graph.gates();
  ASSERT_EQ(gates.size(), 1U);
  EXPECT_EQ(gates[0].parameter.id, -1) << "a layer computes its coefficients";
  try {
    coefficient_values(graph, w, graph.nodes()[static_cast<size_t>(gates[0].node)].inputs[1]);
    FAIL() << "they depend on the input";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("depend on the sample"));
  }
}

TEST(Gates, NameParameterAndAxis) {
  GraphBuilder g({4, 0, 0});
  const Edge x = g.linear("a", g.input(), {.features = 6});
  Graph graph = g.output(g.linear("fc", x, {.features = 3}));
  EXPECT_TRUE(graph.gates().empty());
  apply(graph, {}, Edits{{InsertGate{"mask", "a", ""}}});
  const std::vector<GateInfo> gates = graph.gates();
  ASSERT_EQ(gates.size(), 1U);
  EXPECT_EQ(graph.nodes()[static_cast<size_t>(gates[0].node)].name, "mask");
  EXPECT_EQ(graph[gates[0].axis].name, "a");
  EXPECT_EQ(graph.numel(graph[gates[0].parameter].shape), 6);
}

TEST(FindState, GivesTheOneComponentsAndRefusesTwo) {
  const Graph g = mixtures();
  Weights w(g, at::kFloat, at::kCPU);
  EXPECT_EQ(w.find_state("support"), "");
  w.add_state(g, {.name = "lbi.support"});
  w.add_state(g, {.name = "lbi.unsupport"});
  EXPECT_EQ(w.find_state("support"), "lbi.support");
  w.add_state(g, {.name = "other.support"});
  try {
    w.find_state("support");
    FAIL() << "two components keep it";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'lbi.support' and 'other.support'"));
  }
}

}  // namespace
}  // namespace espalier
