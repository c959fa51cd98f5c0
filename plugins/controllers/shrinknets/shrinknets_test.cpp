#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

#include "kill.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Controller> shrinknets(const std::string& options = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libshrinknets.so");
  return Registry::instance().create<Controller>(
      from_json(R"({"use": "shrinknets")" + (options.empty() ? "" : ", " + options) + "}"));
}

// A sign that flips for good after a long time.
int64_t steps_to_death(double gamma) {
  const KillRule rule{Kill::sign_variance, gamma, 0.5};
  double mean = 1, variance = 0;
  for (int64_t t = 1; t < 100000; ++t) {
    if (rule.kills(-1.0, mean, variance)) return t;
  }
  return -1;
}

TEST(SignVariance, AFlipForGoodKillsAfterAKnownNumberOfSteps) {
  EXPECT_EQ(steps_to_death(0), 1) << "at the first change of the sign";
  EXPECT_EQ(steps_to_death(0.9), 2);
  EXPECT_EQ(steps_to_death(0.99), 16);
  EXPECT_EQ(steps_to_death(0.999), 159);
}

TEST(SignVariance, AfterAFlipTheVarianceIsThatOfItsClosedForm) {
  const double gamma = 0.9;
  const KillRule rule{Kill::none, gamma, 0.5};
  double mean = 1, variance = 0;
  for (int64_t t = 1; t <= 50; ++t) {
    rule.kills(-1.0, mean, variance);
    // Facts of the authors' program: 4 gamma^t (1 - gamma^(t + 1)) with t counted from 0.
    const auto n = static_cast<double>(t - 1);
    EXPECT_NEAR(variance, 4 * std::pow(gamma, n) * (1 - std::pow(gamma, n + 1)), 1e-12) << t;
    EXPECT_NEAR(mean, 2 * std::pow(gamma, n + 1) - 1, 1e-12) << t;
  }
}

TEST(SignVariance, AnOscillatingSignFollowsTheRecurrence) {
  const double gamma = 0.95;
  const KillRule rule{Kill::none, gamma, 0.5};
  double mean = 1, variance = 0, m = 1, v = 0;
  for (int64_t t = 1; t <= 200; ++t) {
    const double s = t % 2 == 1 ? -1 : 1;
    rule.kills(0.3 * s, mean, variance);
    v = gamma * v + (1 - gamma) * (s - m) * (s - m);
    m = gamma * m + (1 - gamma) * s;
    ASSERT_NEAR(variance, v, 1e-14);
    ASSERT_NEAR(mean, m, 1e-14);
  }
  EXPECT_NEAR(variance, 1, 0.1) << "the variance of a fair coin";
}

// Two hidden layers with a convolution and its batch norm before them.
Graph network() {
  GraphBuilder b({.channels = 1, .height = 6, .width = 6});
  const Edge x = b.relu(b.batch_norm("bn", b.conv("conv", b.input(), {.filters = 4, .kernel = 3})));
  const Edge h = b.relu(b.linear("fc1", b.flatten(x), {.features = 5}));
  return b.output(b.linear("fc2", h, {.features = 3}));
}

at::Tensor value(testkit::TestRun& run, const std::string& name) {
  return run.weights()[run.graph().parameter(name)].detach();
}

TEST(ShrinkNets, SwitchesStandBehindBatchNormsAndLinearLayersButTheLast) {
  Graph g = network();
  const auto c = shrinknets();
  apply(g, {}, c->begin(g));
  std::vector<std::string> gates;
  for (const GateInfo& gate : g.gates()) gates.push_back(g.nodes()[static_cast<size_t>(gate.node)].name);
  EXPECT_THAT(gates, ElementsAre("conv.switch", "fc1.switch"));
  const Node& gate = g.node("conv.switch");
  EXPECT_EQ(g[gate.inputs.front()].name, "bn") << "conv, batch norm, switch, ReLU (002-X13)";
}

struct Started {
  std::unique_ptr<Controller> controller;
  testkit::TestRun run;
  Started(const Graph& network, const std::string& options, uint64_t seed = 3)
      : controller(shrinknets(options)), run(begun(network, *controller), seed) {
    controller->stage_begin(run);
  }
  static Graph begun(Graph g, const Controller& c) {
    apply(g, {}, c.begin(g));
    return g;
  }
  void set(const std::string& name, const std::vector<double>& values) {
    const c10::NoGradGuard no_grad;
    at::Tensor(value(run, name)).copy_(at::tensor(values, at::kDouble));
  }
};

constexpr const char* fc1 = "fc1.switch.coefficient.value";
constexpr const char* conv = "conv.switch.coefficient.value";

TEST(ShrinkNets, TheDeadLeaveTogetherAndTheFunctionStays) {
  Started s(network(), R"("kill": "sign_change")");
  s.set(conv, {0.5, 0.5, 0.5, 0.5});
  s.set(fc1, {0.5, -0.5, 0.5, 0.5, -0.5});
  // The signs that were seen are those of the initial values; one step makes these the reference.
  s.controller = shrinknets(R"("kill": "sign_change")");
  s.controller->stage_begin(s.run);
  s.set(conv, {0.5, 0.5, 0.5, 0.5});
  s.set(fc1, {0.5, -0.5, 0.5, 0.5, -0.5});
  for (const char* p : {conv, fc1}) {
    const ParamId id = s.run.graph().parameter(p);
    at::Tensor(s.run.weights().state("shrinknets.mean", id)).copy_(value(s.run, p).sign());
  }
  s.set(conv, {0.5, -0.1, 0.5, 0.5});
  s.set(fc1, {0.5, -0.5, -0.1, 0.5, 0.1});
  s.controller->step_end(s.run);
  EXPECT_EQ(value(s.run, conv)[1].item<double>(), 0);
  EXPECT_EQ(value(s.run, fc1)[2].item<double>(), 0);
  const at::Tensor x = testkit::input_of(s.run.graph(), 4, 1);
  const c10::NoGradGuard no_grad;
  const at::Tensor masked = run(s.run.graph(), s.run.weights(), {{"input", x}}, {"logits"})[0];
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.graph()[s.run.graph().axis("conv")].size, 3);
  EXPECT_EQ(s.run.graph()[s.run.graph().axis("fc1")].size, 3);
  EXPECT_EQ(s.run.metrics().at("neurons"), 6);
  EXPECT_TRUE(run(s.run.graph(), s.run.weights(), {{"input", x}}, {"logits"})[0].allclose(masked, 1e-12, 1e-12));
  s.controller->stage_end(s.run);
  EXPECT_TRUE(s.run.graph().gates().empty()) << "the switches are part of the layers";
  EXPECT_TRUE(run(s.run.graph(), s.run.weights(), {{"input", x}}, {"logits"})[0].allclose(masked, 1e-10, 1e-12));
}

TEST(ShrinkNets, WhatIsDeadStaysDeadUntilItGoes) {
  Started s(network(), R"("kill": "sign_change", "every": 0)");
  const at::Tensor first = value(s.run, fc1).clone();
  s.set(fc1, {-first[0].item<double>(), 1e-3, 1e-3, 1e-3, 1e-3});
  s.controller->step_end(s.run);
  EXPECT_EQ(value(s.run, fc1)[0].item<double>(), 0);
  s.set(fc1, {0.7, 1e-3, 1e-3, 1e-3, 1e-3});
  s.controller->step_end(s.run);
  EXPECT_EQ(value(s.run, fc1)[0].item<double>(), 0) << "whatever the optimizer makes of it";
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.graph()[s.run.graph().axis("fc1")].size, 5) << "`every: 0` collects nothing";
}

// random_variance: a switch of variance 1/2 is always silent, one of variance 0 never. What is silent is as if its
// switch were 0 in the pass, except that the switch itself gets no gradient.
TEST(ShrinkNets, ASilentSwitchLearnsNothingInThisStep) {
  Started s(network(), R"("kill": "random_variance")");
  const ParamId id = s.run.graph().parameter(fc1);
  s.set(fc1, {0.5, -0.5, 0.5, 0.5, -0.5});
  at::Tensor(s.run.weights().state("shrinknets.variance", id)).copy_(at::tensor({0.0, 0.5, 0.0, 0.5, 0.0}));
  const Batch batch{{{"input", testkit::input_of(s.run.graph(), 4, 1)}},
                    {{"target", at::tensor({0, 1, 2, 0}, at::kLong)}}};
  s.controller->step(s.run, batch);
  EXPECT_TRUE(value(s.run, fc1).equal(at::tensor({0.5, -0.5, 0.5, 0.5, -0.5}, at::kDouble))) << "it comes back";
  const at::Tensor gradient = s.run.weights().gradient(id).detach().clone();
  const at::Tensor rows = s.run.weights().gradient(s.run.graph().parameter("fc1.weight")).detach().clone();

  s.set(fc1, {0.5, 0, 0.5, 0, -0.5});
  s.run.weights().zero_gradients();
  s.run.add_gradients(batch, s.run.weights());
  const at::Tensor expected = s.run.weights().gradient(id).detach() * at::tensor({1, 0, 1, 0, 1}, at::kDouble);
  EXPECT_TRUE(gradient.equal(expected)) << gradient << expected;
  EXPECT_TRUE(rows.equal(s.run.weights().gradient(s.run.graph().parameter("fc1.weight")).detach()));
  EXPECT_GT(gradient.abs().sum().item<double>(), 0);
}

TEST(ShrinkNets, ALayerKeepsItsLargestSwitch) {
  Started s(network(), R"("kill": "threshold", "tau": 10)");
  s.set(fc1, {0.1, -0.9, 0.2, 0.3, 0.4});
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.graph()[s.run.graph().axis("fc1")].size, 1);
  EXPECT_EQ(value(s.run, fc1)[0].item<double>(), -0.9);
}

TEST(ShrinkNets, ARelusSwitchIsDeadAtZero) {
  Started s(network(), R"("switch": "relu")");
  EXPECT_GE(value(s.run, fc1).min().item<double>(), 0);
  s.set(fc1, {0.1, -0.2, 0.2, 0.0, 0.4});
  s.controller->step_end(s.run);
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.graph()[s.run.graph().axis("fc1")].size, 3);
  EXPECT_THROW(shrinknets(R"("switch": "relu", "kill": "threshold")"), Error);
}

TEST(ShrinkNets, InputsOfALinearNetworkGo) {
  GraphBuilder b({.channels = 6});
  const Graph linear = b.output(b.linear("fc", b.input(), {.features = 2}));
  try {
    shrinknets()->check(linear);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("`inputs: true`"));
  }
  Started s(linear, R"("inputs": true, "init": "normal", "kill": "threshold", "tau": 0.05)");
  s.set("inputs.switch.coefficient.value", {1, 0.01, -1, 0.02, 2, -2});
  const at::Tensor w = value(s.run, "fc.weight").clone();
  s.controller->step_end(s.run);
  EXPECT_EQ(s.run.metrics().at("neurons"), 6);
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.metrics().at("neurons"), 4);
  EXPECT_EQ(s.run.metrics().at("neuron_steps"), 6);
  s.controller->stage_end(s.run);
  const at::Tensor kept = at::tensor({0, 2, 4, 5}, at::kLong);
  const at::Tensor expected = w.index_select(1, kept) * at::tensor({1.0, -1.0, 2.0, -2.0}, at::kDouble);
  EXPECT_TRUE(value(s.run, "fc.weight").allclose(expected, 1e-12, 1e-12)) << "folded";
}

TEST(ShrinkNets, InitialSwitchesAreThoseOfTheirDistribution) {
  GraphBuilder b({.channels = 6});
  const Graph wide = b.output(b.linear("fc2", b.relu(b.linear("fc1", b.input(), {.features = 4000})), {.features = 2}));
  Started uniform(wide, R"("init": "uniform")"), normal(wide, R"("init": "normal")");
  const at::Tensor u = value(uniform.run, fc1), n = value(normal.run, fc1);
  EXPECT_LE(u.abs().max().item<double>(), 1);
  // Four standard errors of 4000 draws.
  EXPECT_NEAR(u.mean().item<double>(), 0, 4 * std::sqrt(1.0 / 3 / 4000));
  EXPECT_NEAR(u.square().mean().item<double>(), 1.0 / 3, 4 * std::sqrt(4.0 / 45 / 4000));
  EXPECT_NEAR(n.square().mean().item<double>(), 1, 4 * std::sqrt(2.0 / 4000));
}

// ---- the propositions of the paper's appendix ----

// Squared error of y = x diag(b) a over all outputs, in the mean.
double loss(const at::Tensor& x, const at::Tensor& y, const at::Tensor& a, const at::Tensor& b) {
  return (x.mul(b).matmul(a) - y).square().mean().item<double>();
}

// The minimum of loss + lambda sum of column norms, by proximal gradient steps with momentum (it is convex).
double group_minimum(const at::Tensor& x, const at::Tensor& y, double lambda) {
  const double scale = 2.0 / static_cast<double>(y.numel());
  const at::Tensor gram = x.t().matmul(x) * scale, cross = x.t().matmul(y) * scale;
  const double rate = 1 / gram.trace().item<double>();
  at::Tensor a = at::zeros({x.size(1), y.size(1)}, at::kDouble), ahead = a;
  double t = 1;
  for (int i = 0; i < 6000; ++i) {
    at::Tensor next = ahead - rate * (gram.matmul(ahead) - cross);
    const at::Tensor norms = next.square().sum(1, true).sqrt();
    next = next * (1 - rate * lambda / norms.clamp_min(1e-300)).clamp_min(0);
    const double after = (1 + std::sqrt(1 + 4 * t * t)) / 2;
    ahead = next + (t - 1) / after * (next - a);
    a = next, t = after;
  }
  return loss(x, y, a, at::ones({x.size(1)}, at::kDouble)) + lambda * a.square().sum(1).sqrt().sum().item<double>();
}

// Proposition A.1 (with 002-X6: beta_j is the norm, and columns have the norm 1): both problems have the same minimum.
TEST(Propositions, SwitchesOnUnitColumnsHaveTheMinimumOfGroupSparsity) {
  for (uint64_t problem = 0; problem < 2; ++problem) {
    const RandomKey key = RandomKey(17).with(problem);
    const at::Tensor x = normal({40, 5}, 1, key.with("x"));
    const at::Tensor y = x.matmul(normal({5, 2}, 1, key.with("a"))) + normal({40, 2}, 0.5, key.with("noise"));
    const double lambda = 0.3, expected = group_minimum(x, y, lambda);
    double best = 1e300;
    for (uint64_t start = 0; start < 3; ++start) {
      at::Tensor a = normal({5, 2}, 1, key.with("start").with(start)), b = normal({5}, 1, key.with("b").with(start));
      for (int i = 0; i < 6000; ++i) {
        a = a / a.square().sum(1, true).sqrt();  // unit columns (rows of a are the columns of the paper's A)
        const at::Tensor error = (x.mul(b).matmul(a) - y) * (2.0 / static_cast<double>(y.numel()));
        const at::Tensor of_product = x.t().matmul(error);  // of diag(b) a
        const at::Tensor gb = of_product.mul(a).sum(1), ga = of_product.mul(b.unsqueeze(1));
        // A proximal step of the switches, a gradient step of the columns.
        const at::Tensor moved = b - 0.05 * gb;
        b = moved.sign() * (moved.abs() - 0.05 * lambda).clamp_min(0);
        a = a - 0.05 * ga;
      }
      a = a / a.square().sum(1, true).sqrt();
      best = std::min(best, loss(x, y, a, b) + lambda * b.abs().sum().item<double>());
    }
    EXPECT_NEAR(best, expected, 1e-6) << problem;
  }
}

// A.2 (002-X7): of one weight a and one switch b, y = 0 and x > 0: f(0, 2) = f(2, 0) = 0, and f(1, 1) = x^2.
TEST(Propositions, TheProblemIsNotConvex) {
  const at::Tensor x = at::full({1, 1}, 1.7, at::kDouble), y = at::zeros({1, 1}, at::kDouble);
  const auto f = [&](double a, double b) {
    return loss(x, y, at::full({1, 1}, a, at::kDouble), at::full({1}, b, at::kDouble));
  };
  EXPECT_EQ(f(0, 2), 0);
  EXPECT_EQ(f(2, 0), 0);
  EXPECT_NEAR(f(1, 1), 1.7 * 1.7, 1e-12) << "above the mean of the two, between which it lies";
}

double penalty(const at::Tensor& switches) {
  return switches.abs().sum().item<double>();
}

// A.3: without a constraint there is no minimum. A.4: every pattern of signs is as good as another.
TEST(Propositions, ScalesAndSignsMoveBetweenSwitchesAndColumns) {
  GraphBuilder b({.channels = 4});
  Started s(b.output(b.linear("fc", b.input(), {.features = 2})), R"("inputs": true, "init": "normal")");
  const c10::NoGradGuard no_grad;
  const at::Tensor x = testkit::input_of(s.run.graph(), 5, 1);
  const auto logits = [&] { return run(s.run.graph(), s.run.weights(), {{"input", x}}, {"logits"})[0]; };
  const at::Tensor before = logits();
  at::Tensor w = value(s.run, "fc.weight"), switches = value(s.run, "inputs.switch.coefficient.value");
  const double whole = penalty(switches);
  w.mul_(2);
  switches.div_(2);
  EXPECT_TRUE(logits().allclose(before, 1e-12, 1e-12));
  EXPECT_NEAR(penalty(switches), whole / 2, 1e-12) << "the same loss for half of the penalty";
  for (int pattern = 0; pattern < 16; ++pattern) {
    const at::Tensor kept_w = w.clone(), kept = switches.clone();
    for (int64_t j = 0; j < 4; ++j) {
      if ((pattern >> j) & 1) {
        w.select(1, j).neg_();
        switches[j].neg_();
      }
    }
    EXPECT_TRUE(logits().allclose(before, 1e-12, 1e-12)) << pattern;
    EXPECT_NEAR(penalty(switches), whole / 2, 1e-12);
    w.copy_(kept_w);
    switches.copy_(kept);
  }
}

}  // namespace
}  // namespace espalier
