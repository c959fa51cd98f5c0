// Scores against transcriptions in float64 that know the network's layers by name, closed forms and finite differences.
#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "espalier/registry.h"
#include "espalier/score.h"
#include "espalier/selector.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A residual block whose stream the stem and conv2 make together, and a width of its own within.
Graph residual() {
  GraphBuilder g({2, 6, 6});
  Edge x = g.relu(g.batch_norm("bn0", g.conv("stem", g.input(), {.filters = 4, .padding = 1, .bias = false})));
  Edge y = g.relu(g.batch_norm("bn1", g.conv("conv1", x, {.filters = 3, .padding = 1})));
  y = g.batch_norm("bn2", g.conv("conv2", y, {.filters = 4, .padding = 1}));
  x = g.relu(g.add(y, x));
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

struct Bench {
  testkit::TestRun run;

  explicit Bench(Graph graph = residual()) : run(std::move(graph), 1) {
    const c10::NoGradGuard no_grad;
    // Batch norms that are not the identity.
    for (size_t i = 0; i < run.graph().parameters().size(); ++i) {
      const Parameter& p = run.graph().parameters()[i];
      at::Tensor t = run.weights()[{static_cast<int32_t>(i)}];
      if (p.kind.starts_with("norm") || p.kind == "running_mean") t.copy_(normal(t.sizes().vec(), 1, RandomKey(i)));
      if (p.kind == "running_var") t.copy_(uniform(t.sizes().vec(), 0.5, 2, RandomKey(i)));
    }
    run.batches = [this](int64_t n) { return batch(n); };
  }
  Batch batch(int64_t n) const {
    const auto seed = static_cast<uint64_t>(n);
    return {.inputs = {{"input", testkit::input_of(run.graph(), 5, seed)}},
            .targets = {{"target", testkit::target_of(3, 5, seed)}}};
  }
  at::Tensor operator[](const char* name) { return run.weights()[run.graph().parameter(name)].detach(); }
  at::Tensor gradient(const char* name) { return run.weights().gradient(run.graph().parameter(name)); }
  static std::unique_ptr<Score> make(const std::string& spec) {
    return Registry::instance().create<Score>(from_json(spec));
  }
  std::vector<double> scores(const std::string& spec, const char* axis) {
    return make(spec)
        ->scores({run.graph(), run.weights(), RandomKey(7), &run}, {run.graph().axis(axis)})
        .front()
        .scores;
  }
  double loss(int64_t n) {
    const c10::NoGradGuard no_grad;
    return run.loss(batch(n), nullptr).item<double>();
  }
};

void expect_near(const std::vector<double>& got, const std::vector<double>& expected, double relative) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], relative * (std::abs(expected[i]) + 1e-12)) << "position " << i;
}

// Sums over the same numbers in another order.
constexpr double rounding = 1e-12;

double l1(const at::Tensor& t) {
  return t.abs().sum().item<double>();
}
double l2(const at::Tensor& t) {
  return t.norm().item<double>();
}

TEST(Scores, NormsOfAWidthOfItsOwn) {
  Bench b;
  std::vector<double> first, second;
  for (int64_t k = 0; k < 3; ++k) {
    first.push_back(l1(b["conv1.weight"][k]));
    second.push_back(l2(b["conv1.weight"][k]));
  }
  expect_near(b.scores(R"({"use": "l1"})", "conv1"), first, rounding);
  expect_near(b.scores(R"({"use": "l2"})", "conv1"), second, rounding);
}

TEST(Scores, NormsOfASharedWidthAreReducedOverTheLayersThatMakeIt) {
  Bench b;
  std::vector<double> joint, sum, mean, most;
  for (int64_t k = 0; k < 4; ++k) {
    const double s = l2(b["stem.weight"][k]), c = l2(b["conv2.weight"][k]);
    joint.push_back(std::hypot(s, c));
    sum.push_back(s + c);
    mean.push_back((s + c) / 2);
    most.push_back(std::max(s, c));
  }
  expect_near(b.scores(R"({"use": "l2"})", "stem"), joint, rounding);
  expect_near(b.scores(R"({"use": "l2", "reduce": "sum"})", "stem"), sum, rounding);
  expect_near(b.scores(R"({"use": "l2", "reduce": "mean"})", "stem"), mean, rounding);
  expect_near(b.scores(R"({"use": "l2", "reduce": "max"})", "stem"), most, rounding);
  std::vector<double> ones;
  for (int64_t k = 0; k < 4; ++k) ones.push_back(l1(b["stem.weight"][k]) + l1(b["conv2.weight"][k]));
  expect_near(b.scores(R"({"use": "l1"})", "stem"), ones, rounding);
}

TEST(Scores, TheNormOfAGroupCountsAllThatGoesWithAPosition) {
  Bench b;
  std::vector<double> inner, stream;
  for (int64_t k = 0; k < 3; ++k) {
    double squares = std::pow(l2(b["conv1.weight"][k]), 2) + std::pow(l2(b["conv2.weight"].select(1, k)), 2);
    for (const char* name : {"conv1.bias", "bn1.weight", "bn1.bias"}) squares += std::pow(l2(b[name][k]), 2);
    inner.push_back(std::sqrt(squares));
  }
  for (int64_t k = 0; k < 4; ++k) {
    double squares = std::pow(l2(b["stem.weight"][k]), 2) + std::pow(l2(b["conv2.weight"][k]), 2) +
                     std::pow(l2(b["conv1.weight"].select(1, k)), 2) + std::pow(l2(b["fc.weight"].select(1, k)), 2);
    for (const char* name : {"bn0.weight", "bn0.bias", "conv2.bias", "bn2.weight", "bn2.bias"})
      squares += std::pow(l2(b[name][k]), 2);
    stream.push_back(std::sqrt(squares));
  }
  std::vector<double> ones;  // with the columns of conv2, which lie apart in memory
  for (int64_t k = 0; k < 3; ++k) {
    double sum = l1(b["conv1.weight"][k]) + l1(b["conv2.weight"].select(1, k));
    for (const char* name : {"conv1.bias", "bn1.weight", "bn1.bias"}) sum += l1(b[name][k]);
    ones.push_back(sum);
  }
  expect_near(b.scores(R"({"use": "l1", "of": "group"})", "conv1"), ones, rounding);
  expect_near(b.scores(R"({"use": "l2", "of": "group"})", "conv1"), inner, rounding);
  expect_near(b.scores(R"({"use": "l2", "of": "group"})", "stem"), stream, rounding);
}

TEST(Scores, NormsAreTheSameInFloat32UpToItsRounding) {
  const Graph g = residual();
  Weights weights(g, at::kFloat, at::kCPU);
  weights.initialize(g, RandomKey(1));
  const std::vector<AxisScores> s =
      Bench::make(R"({"use": "l2"})")->scores({g, weights, RandomKey(0), nullptr}, {g.axis("conv1")});
  for (int64_t k = 0; k < 3; ++k)
    EXPECT_NEAR(s[0].scores[static_cast<size_t>(k)],
                l2(weights[g.parameter("conv1.weight")].detach()[k].to(at::kDouble)), 1e-12);
}

TEST(Scores, GroupsAndHeadsHaveARowForEachPosition) {
  GraphBuilder g({4, 6, 6});
  const Edge x = g.conv("first", g.input(), {.filters = 4, .kernel = 1});
  Bench b(g.output(g.linear("fc", g.flatten(g.conv("conv", x, {.filters = 6, .groups = 2})), {.features = 3})));
  std::vector<double> within, whole;
  for (int64_t k = 0; k < 3; ++k) within.push_back(std::hypot(l2(b["conv.weight"][k]), l2(b["conv.weight"][3 + k])));
  expect_near(b.scores(R"({"use": "l2"})", "conv"), within, rounding);
  // The groups are made by both layers.
  const std::string groups = b.run.graph()[b.run.graph().producers(b.run.graph().axis("conv")).front()].name;
  Axis outer;
  for (const Axis a : prunable_axes(b.run.graph(), Selector("conv.weight"))) {
    if (b.run.graph()[a].name != "conv") outer = a;
  }
  ASSERT_GE(outer.id, 0) << groups;
  for (int64_t k = 0; k < 2; ++k) {
    whole.push_back(
        std::hypot(l2(b["conv.weight"].slice(0, 3 * k, 3 * k + 3)), l2(b["first.weight"].slice(0, 2 * k, 2 * k + 2))));
  }
  expect_near(b.scores(R"({"use": "l2"})", b.run.graph()[outer].name.c_str()), whole, rounding);
}

TEST(Scores, BnScaleIsTheSizeOfTheScales) {
  Bench b;
  std::vector<double> mean, most;
  for (int64_t k = 0; k < 4; ++k) {
    const double a = l1(b["bn0.weight"][k]), c = l1(b["bn2.weight"][k]);
    mean.push_back((a + c) / 2);
    most.push_back(std::max(a, c));
  }
  expect_near(b.scores(R"({"use": "bn_scale"})", "stem"), mean, rounding);
  expect_near(b.scores(R"({"use": "bn_scale", "reduce": "max"})", "stem"), most, rounding);
  GraphBuilder g({4});
  const Graph plain = g.output(g.linear("b", g.relu(g.linear("a", g.input(), {.features = 3})), {.features = 2}));
  EXPECT_THAT(Bench::make(R"({"use": "bn_scale"})")->why_not(plain, plain.axis("a")), HasSubstr("no batch norm"));
}

TEST(Scores, GateIsTheSizeOfTheCoefficients) {
  Graph graph = residual();
  EXPECT_THAT(Bench::make(R"({"use": "gate"})")->why_not(graph, graph.axis("conv1")), HasSubstr("no gate"));
  apply(graph, {}, Edit{InsertGate{.gate = "gate", .edge = "bn1", .axis = "conv1", .initial = 1, .role = "weight"}});
  Bench b(std::move(graph));
  b["gate.coefficient.value"].copy_(at::tensor({-2.0, 0.5, 0.0}, at::kDouble));
  EXPECT_THAT(b.scores(R"({"use": "gate"})", "conv1"), ElementsAre(2, 0.5, 0));
}

// A stream of four channels, of which the layer behind the batch norm reads three through a view.
Graph with_view(bool with_gate) {
  GraphBuilder g({2, 6, 6});
  const Edge stream = g.conv("stem", g.input(), {.filters = 4, .padding = 1, .bias = false});
  Edge x = g.select("view", g.batch_norm("bn", stream), {3, 0, 2}, {.drops = true});
  x = g.conv("conv", g.relu(x), {.filters = 4, .padding = 1});
  Graph graph = g.output(g.linear("fc", g.global_avg_pool(g.add(x, stream)), {.features = 3}));
  if (with_gate)
    apply(graph, {}, Edit{InsertGate{.gate = "gate", .edge = "relu1", .axis = "", .initial = 1, .role = "weight"}});
  return graph;
}

TEST(Scores, AViewHasTheScalesOfWhatItReads) {
  Bench b(with_view(false));
  const auto score = Bench::make(R"({"use": "bn_scale"})");
  EXPECT_TRUE(score->judges_views());
  EXPECT_EQ(score->why_not(b.run.graph(), b.run.graph().axis("view")), "");
  expect_near(b.scores(R"({"use": "bn_scale"})", "view"),
              {l1(b["bn.weight"][3]), l1(b["bn.weight"][0]), l1(b["bn.weight"][2])}, rounding);
  EXPECT_FALSE(Bench::make(R"({"use": "l2"})")->judges_views()) << "no layer makes it";
  Bench gated(with_view(true));
  gated["gate.coefficient.value"].copy_(at::tensor({-2.0, 0.5, 0.0}, at::kDouble));
  EXPECT_TRUE(Bench::make(R"({"use": "gate"})")->judges_views());
  EXPECT_THAT(gated.scores(R"({"use": "gate"})", "view"), ElementsAre(2, 0.5, 0));
}

TEST(Scores, ViewsAreNamedByWhatReadsThem) {
  const Graph g = with_view(true);
  const auto names = [&](const Selector& on) {
    std::vector<std::string> all;
    for (const Axis a : view_axes(g, on)) all.push_back(g[a].name);
    return all;
  };
  const std::vector<std::string> one{"view"};
  EXPECT_EQ(names({}), one);
  EXPECT_EQ(names("conv"), one) << "its columns read the view";
  EXPECT_EQ(names("gates"), one);
  EXPECT_TRUE(names(std::vector<std::string>{"bn", "stem", "fc"}).empty());
  ASSERT_EQ(views(g).size(), 1U);
  EXPECT_EQ(views(g)[0].index, (Indices{3, 0, 2}));
  EXPECT_EQ(g[views(g)[0].source].name, "stem");
  for (const Axis a : prunable_axes(g, {})) EXPECT_NE(g[a].name, "view") << "no layer's weights make it";
}

TEST(Scores, OfTwoGatesTheProductCounts) {
  Graph graph = residual();
  for (const char* edge : {"conv1", "bn1"}) {
    apply(graph, {},
          Edit{InsertGate{
              .gate = std::string("on_") + edge, .edge = edge, .axis = "conv1", .initial = 3, .role = "weight"}});
  }
  Bench b(std::move(graph));
  EXPECT_THAT(b.scores(R"({"use": "gate"})", "conv1"), ElementsAre(9, 9, 9));
}

TEST(Scores, FpgmIsTheSumOfTheDistances) {
  GraphBuilder g({2});
  Bench line(g.output(g.linear("b", g.relu(g.linear("a", g.input(), {.features = 3})), {.features = 2})));
  // (0, 0), (3, 4), (6, 8): in the middle is what the others can replace.
  line["a.weight"].copy_(at::tensor({0., 0., 3., 4., 6., 8.}, at::kDouble).reshape({3, 2}));
  expect_near(line.scores(R"({"use": "fpgm"})", "a"), {15, 10, 15}, rounding);
  Bench b;
  std::vector<double> expected;
  for (int64_t i = 0; i < 4; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < 4; ++j) {
      sum += std::hypot(l2(b["stem.weight"][i] - b["stem.weight"][j]), l2(b["conv2.weight"][i] - b["conv2.weight"][j]));
    }
    expected.push_back(sum);
  }
  // |a - b|^2 by a product loses half of the digits of small distances.
  expect_near(b.scores(R"({"use": "fpgm"})", "stem"), expected, 1e-7);
}

TEST(Scores, LampDividesByWhatIsAtLeastAsLarge) {
  GraphBuilder g({1});
  Bench b(g.output(g.linear("b", g.relu(g.linear("a", g.input(), {.features = 4})), {.features = 2})));
  b["a.weight"].copy_(at::tensor({2., -1., 4., 2.}, at::kDouble).reshape({4, 1}));
  // Squares 4, 1, 16, 4; of equal ones the first is the smaller.
  expect_near(b.scores(R"({"use": "lamp"})", "a"), {4. / 24, 1. / 25, 1, 4. / 20}, rounding);
  b["a.weight"].zero_();
  EXPECT_THAT(b.scores(R"({"use": "lamp"})", "a"), ElementsAre(0, 0, 0, 0));
}

TEST(Scores, RandomIsAFunctionOfTheKeyAndTheName) {
  Bench b;
  const std::vector<double> a = b.scores(R"({"use": "random"})", "stem");
  EXPECT_EQ(a, b.scores(R"({"use": "random"})", "stem"));
  EXPECT_NE(a, b.scores(R"({"use": "random", "seed": 1})", "stem"));
  EXPECT_NE(b.scores(R"({"use": "random"})", "conv1"), std::vector<double>(a.begin(), a.begin() + 3));
  for (const double v : a) EXPECT_TRUE(v >= 0 && v < 1);
}

// The derivative of the loss by a factor of a position's weights and biases, as a central difference.
TEST(Scores, TaylorOfWeightsIsTheSquaredChangeOfTheLossToFirstOrder) {
  Bench b;
  const std::vector<double> conv1 = b.scores(R"({"use": "taylor", "batches": 2})", "conv1"),
                            stem = b.scores(R"({"use": "taylor", "batches": 2})", "stem");
  constexpr double step = 1e-5;
  const auto change = [&](const std::vector<const char*>& parameters, int64_t k, int64_t n) {
    std::vector<at::Tensor> kept;
    const auto scale = [&](double factor) {
      for (size_t i = 0; i < parameters.size(); ++i) b[parameters[i]][k].copy_(kept[i] * factor);
      return b.loss(n);
    };
    for (const char* p : parameters) kept.push_back(b[p][k].clone());
    const double difference = (scale(1 + step) - scale(1 - step)) / (2 * step);
    scale(1);
    return difference;
  };
  const auto expected = [&](const std::vector<const char*>& parameters, int64_t k) {
    double sum = 0;
    for (int64_t n = 0; n < 2; ++n) sum += std::pow(change(parameters, k, n), 2);
    return sum / 2;
  };
  // Central differences of step 1e-5 are right to about 1e-9; squares of numbers near 1e-2 then to 1e-6.
  for (int64_t k = 0; k < 3; ++k)
    EXPECT_NEAR(conv1[static_cast<size_t>(k)], expected({"conv1.weight", "conv1.bias"}, k), 1e-9) << k;
  for (int64_t k = 0; k < 4; ++k)
    EXPECT_NEAR(stem[static_cast<size_t>(k)], expected({"stem.weight", "conv2.weight", "conv2.bias"}, k), 1e-9) << k;
  EXPECT_GT(*std::ranges::max_element(conv1), 1e-7) << "the comparison says something";
}

// The same by a gate on the feature map, for each sample alone.
TEST(Scores, TaylorOfActivationsIsTheChangeByAFactorOfTheFeatureMap) {
  Bench b;
  const std::vector<double> conv1 = b.scores(R"({"use": "taylor", "of": "activations", "batches": 2})", "conv1"),
                            stem = b.scores(R"({"use": "taylor", "of": "activations", "batches": 2})", "stem");
  const std::string relu1 = b.run.graph()[feature_edges(b.run.graph(), b.run.graph().axis("conv1")).front()].name;
  const std::vector<Edge> of_stem = feature_edges(b.run.graph(), b.run.graph().axis("stem"));
  ASSERT_EQ(of_stem.size(), 2U) << "the stem's ReLU and the branch's batch norm";
  const std::string relu0 = b.run.graph()[of_stem[0]].name, branch = b.run.graph()[of_stem[1]].name;
  EXPECT_EQ(branch, "bn2");
  b.run.edit({{InsertGate{.gate = "g1", .edge = relu1, .axis = "conv1", .initial = 1, .role = "weight"}},
              {InsertGate{.gate = "g0", .edge = relu0, .axis = "stem", .initial = 1, .role = "weight"}},
              {InsertGate{.gate = "g2", .edge = branch, .axis = "stem", .initial = 1, .role = "weight"}}});
  constexpr double step = 1e-5;
  const auto expected = [&](const std::vector<const char*>& gates, int64_t k) {
    const c10::NoGradGuard no_grad;
    double sum = 0;
    for (int64_t n = 0; n < 2; ++n) {
      const Batch batch = b.batch(n);
      const auto losses = [&](double coefficient) {
        for (const char* g : gates) b[g][k].fill_(coefficient);
        const at::Tensor logits = espalier::run(b.run.graph(), b.run.weights(), batch.inputs, {"logits"})[0];
        return at::cross_entropy_loss(logits, batch.target(), {}, /*reduction=*/0);
      };
      sum += ((losses(1 + step) - losses(1 - step)) / (2 * step)).abs().sum().item<double>();
      losses(1);
    }
    return sum / 10;
  };
  for (int64_t k = 0; k < 3; ++k)
    EXPECT_NEAR(conv1[static_cast<size_t>(k)], expected({"g1.coefficient.value"}, k), 1e-8) << k;
  for (int64_t k = 0; k < 4; ++k) {
    EXPECT_NEAR(stem[static_cast<size_t>(k)], expected({"g0.coefficient.value", "g2.coefficient.value"}, k), 1e-8) << k;
  }
  EXPECT_GT(*std::ranges::max_element(conv1), 1e-4) << "the comparison says something";
}

TEST(Scores, ObdIsHalfTheFisherDiagonalTimesTheSquaredWeights) {
  Bench b;
  const std::vector<double> by_batch = b.scores(R"({"use": "obd", "batches": 2})", "conv1"),
                            by_sample = b.scores(R"({"use": "obd", "batches": 1, "gradients": "sample"})", "conv1");
  const auto add = [&](const Batch& batch, std::vector<double>& sums, double count) {
    b.run.weights().zero_gradients();
    testkit::cross_entropy(b.run.graph(), b.run.weights(), batch.input(), batch.target()).backward();
    for (int64_t k = 0; k < 3; ++k) {
      for (const char* name : {"conv1.weight", "conv1.bias"}) {
        sums[static_cast<size_t>(k)] +=
            0.5 * (b[name][k].square() * b.gradient(name)[k].square()).sum().item<double>() / count;
      }
    }
  };
  std::vector<double> expected(3, 0), of_samples(3, 0);
  for (int64_t n = 0; n < 2; ++n) add(b.batch(n), expected, 2);
  const Batch first = b.batch(0);
  for (int64_t s = 0; s < 5; ++s) {
    add({.inputs = {{"input", first.input().slice(0, s, s + 1)}},
         .targets = {{"target", first.target().slice(0, s, s + 1)}}},
        of_samples, 5);
  }
  expect_near(by_batch, expected, 1e-9);
  expect_near(by_sample, of_samples, 1e-9);
}

// A convolution of single pixels that hands on each channel of the input.
Graph passes_channels(int64_t channels) {
  GraphBuilder g({channels, 4, 4});
  const Edge x = g.relu(g.conv("conv", g.input(), {.filters = channels, .kernel = 1}));
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

TEST(Scores, ApozAndHrankLookAtTheFeatureMaps) {
  Bench b(passes_channels(3));
  b["conv.weight"].copy_(at::eye(3, at::kDouble).reshape({3, 3, 1, 1}));
  b["conv.bias"].zero_();
  // Of full rank, of rank 1, and zero behind the ReLU.
  const at::Tensor identity = at::eye(4, at::kDouble);
  const at::Tensor row = at::tensor({1., 2., 3., 4.}, at::kDouble);
  const at::Tensor image = at::stack({identity, at::outer(row, row), -at::ones({4, 4}, at::kDouble)});
  b.run.batches = [&](int64_t) {
    return Batch{.inputs = {{"input", at::stack({image, image})}},
                 .targets = {{"target", at::tensor({0, 1}, at::kLong)}}};
  };
  EXPECT_THAT(b.scores(R"({"use": "hrank", "batches": 2})", "conv"), ElementsAre(4, 1, 0));
  EXPECT_THAT(b.scores(R"({"use": "apoz", "batches": 2})", "conv"), ElementsAre(4. / 16, 1, 0));
  // Of a residual stream what the block hands on counts: behind the sum there is a ReLU.
  Bench r;
  const Graph& g = r.run.graph();
  for (const Edge e : feature_edges(g, g.axis("stem"), /*sums=*/true))
    EXPECT_EQ(g.nodes()[static_cast<size_t>(g[e].producer)].op->type(), "relu");
}

TEST(Scores, ReconstructionRanksByWhatTheNextLayerMakesOfAPosition) {
  for (const char* use : {"thinet", "channel_pruning"}) {
    Bench b(passes_channels(4));
    b["conv.bias"].fill_(1);
    // The second adds nothing to any output, the fourth most.
    b["fc.weight"].copy_(at::tensor({.3, 0., .1, 5., .3, 0., .1, -5., -.3, 0., .1, 5.}, at::kDouble).reshape({3, 4}));
    b["conv.weight"].mul_(0.01);
    const std::vector<double> s = b.scores(R"({"use": ")" + std::string(use) + R"(", "batches": 2})", "conv");
    EXPECT_LT(s[1], s[2]) << use;
    EXPECT_LT(s[2], s[0]) << use;
    EXPECT_LT(s[0], s[3]) << use;
  }
}

// Channels that are 1 everywhere, of which the next layer makes plus or minus a_k: whatever is drawn, what goes
// together changes an output by |sum of a_k|. Of a = -3, 1, 2.8, 1.5 the greedy choice of ThiNet's algorithm 1 is 1
// (1), then -3
// (|-2|; 2.5 and 3.8 otherwise), then 1.5 (|-0.5|; 0.8 otherwise), then 2.8. The lasso needs one of such columns alone,
// the largest.
TEST(Scores, ReconstructionFollowsItsAlgorithmOnKnownColumns) {
  Bench b(passes_channels(4));
  b["conv.weight"].zero_();
  b["conv.bias"].fill_(1);
  const at::Tensor a = at::tensor({-3., 1., 2.8, 1.5}, at::kDouble);
  b["fc.weight"].copy_(at::stack({a, -a, a}));
  EXPECT_THAT(b.scores(R"({"use": "thinet", "batches": 2, "points": 3})", "conv"), ElementsAre(0.5, 0.25, 1, 0.75));
  const std::vector<double> lasso = b.scores(R"({"use": "channel_pruning", "batches": 2, "points": 3})", "conv");
  EXPECT_GT(lasso[0], 0.9);
  for (const size_t k : {1U, 2U, 3U}) EXPECT_LT(lasso[k], 1e-6) << k;
}

TEST(Scores, SayWhatTheyNeed) {
  Bench b;
  const Graph& g = b.run.graph();
  for (const char* use : {"taylor", "obd", "apoz", "hrank", "thinet", "channel_pruning"}) {
    const auto score = Bench::make(R"({"use": ")" + std::string(use) + "\"}");
    EXPECT_GT(score->batches(), 0) << use;
    try {
      score->scores({g, b.run.weights(), RandomKey(0), nullptr}, {g.axis("conv1")});
      ADD_FAILURE() << use << " without data";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("batches of training data")) << use;
    }
  }
}

TEST(Scores, WidthsThatCannotGoAreNamedWithAReason) {
  const Graph g = residual();
  std::vector<std::string> names;
  for (const Axis a : prunable_axes(g, {})) names.push_back(g[a].name);
  EXPECT_THAT(names, ElementsAre("stem", "conv1"));
  EXPECT_THAT(unprunable_axes(g),
              ElementsAre("'input' (2): its size is given from outside", "'fc' (3): its size is given from outside"));
  GraphBuilder b({2, 0, 0});
  const Graph one = b.output(b.linear("fc", b.linear("single", b.input(), {.features = 1}), {.features = 3}));
  EXPECT_TRUE(prunable_axes(one, {}).empty());
  EXPECT_EQ(unprunable_axes(one)[1], "'single' (1): it has a single position");
}

}  // namespace
}  // namespace espalier
