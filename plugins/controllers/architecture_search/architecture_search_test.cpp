// The searches against closed forms and against transcriptions of their formulas that share no code with them.
#include <algorithm>
#include <array>
#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/own_step.h>

#include "search_run.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using Tensors = std::vector<at::Tensor>;

constexpr int64_t features = 3, hidden = 4, classes = 3, samples = 8;

void load_plugins() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarchitecture_search.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsolvable.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsgd.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libadam.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libl1.so");
}

std::unique_ptr<Controller> controller(const std::string& spec) {
  load_plugins();
  return SearchRun::make<Controller>(spec);
}

// ---- the solvable model ----

Graph solvable(double w, double alpha) {
  load_plugins();
  return testkit::build(
      R"({"use": "solvable", "w": )" + std::to_string(w) + R"(, "alpha": )" + std::to_string(alpha) + "}",
      {.channels = 2}, {.outputs = 2});
}

Batch nothing() {
  return {.inputs = {{"input", at::zeros({1, 2}, at::kDouble)}}, .targets = {{"target", at::zeros({1}, at::kLong)}}};
}

struct Point {
  double w, u, alpha;
};

// Where a search of the solvable model stands after so many steps of plain gradient descent.
Point search(const std::string& spec, double rate, int64_t steps, double w, double alpha) {
  const std::string sgd = R"({"use": "sgd", "lr": )" + std::to_string(rate) + "}";
  SearchRun run(solvable(w, alpha), sgd, sgd);
  run.validation = [](int64_t) { return nothing(); };
  const auto c = controller(spec);
  c->stage_begin(run);
  for (int64_t i = 0; i < steps; ++i) run.step(*c, nothing());
  c->epoch_end(run);
  const auto& m = run.metrics();
  return {m.at("w"), m.contains("u") ? m.at("u") : m.at("w"), m.at("alpha")};
}

constexpr const char* losses = R"("train_loss": "auxiliary", "validation_loss": "primary", "watch": ["w", "alpha"])";

std::string rarts(double lambda, double beta) {
  return R"({"use": "rarts", "lambda": )" + std::to_string(lambda) + R"(, "beta": )" + std::to_string(beta) + ", " +
         losses + "}";
}

// Paper 003, example 2.4: 1.027, .919 and 1.081 by (2.19), to the three decimals that the thesis prints.
TEST(RartsSearch, ConvergesToTheEquilibriumOfTheSolvableModel) {
  const Point p = search(rarts(10, 10), 0.02, 2000, -2, 2);
  EXPECT_NEAR(p.w, 1.027, 5e-4);
  EXPECT_NEAR(p.u, 0.919, 5e-4);
  EXPECT_NEAR(p.alpha, 1.081, 5e-4);
}

// The closed form of example 2.4 for other lambda and beta, where the Lagrangian is strongly convex: lambda above 1/2
// and beta above 3/2. With 1 / (2 lambda + beta), the inverse of the largest second derivative, no update goes beyond
// the minimum along its own number, so the iteration converges; the recursion (2.12) in plain numbers says after how
// many steps.
TEST(RartsSearch, ConvergesToTheClosedFormForTwentyOtherPairs) {
  int pairs = 0;
  for (const double lambda : {0.8, 1.5, 3.0, 7.0, 20.0}) {
    for (const double beta : {1.8, 4.0, 10.0, 25.0}) {
      const double d = 4 * beta * lambda - beta - 2 * lambda;
      const double rate = 1 / (2 * lambda + beta);
      const double w = (4 * beta * lambda - 2 * beta) / d, u = w - 4 * lambda / d, alpha = 4 * beta * lambda / d;
      int64_t steps = 0;
      for (Point x{0.5, 0.5, 0.5}; std::abs(x.w - w) + std::abs(x.u - u) + std::abs(x.alpha - alpha) > 1e-8; ++steps) {
        ASSERT_LT(steps, 100000);
        x.w -= rate * (lambda * (2 * x.w - 2 * x.alpha) + beta * (x.w - x.u));
        x.u -= rate * (x.alpha + beta * (x.u - x.w));
        x.alpha -= rate * (lambda * (2 * x.alpha - 2 * x.w) + x.u - 2);
      }
      const Point p = search(rarts(lambda, beta), rate, steps, 0.5, 0.5);
      // std::to_string gives six decimals to the options, so the run's rate is another by less than 1e-6: 1e-6 here.
      EXPECT_NEAR(p.w, w, 1e-6) << lambda << " " << beta;
      EXPECT_NEAR(p.u, u, 1e-6) << lambda << " " << beta;
      EXPECT_NEAR(p.alpha, alpha, 1e-6) << lambda << " " << beta;
      ++pairs;
    }
  }
  EXPECT_EQ(pairs, 20);
}

// The spurious equilibrium of example 2.4: (2.22) and (2.24) have the one solution (2, 2).
TEST(DartsSearch, OfTheFirstOrderConvergesToTheSpuriousEquilibrium) {
  for (const char* begin : {"architecture", "weights"}) {
    const Point p =
        search(R"({"use": "darts", "begin_with": ")" + std::string(begin) + "\", " + losses + "}", 0.05, 3000, -2, 2);
    EXPECT_NEAR(p.w, 2, 1e-6) << begin;
    EXPECT_NEAR(p.alpha, 2, 1e-6) << begin;
  }
}

TEST(MilenasSearch, ConvergesToTheSpuriousEquilibriumForEveryFactor) {
  for (const char* lambda : {"0.5", "1", "3"}) {
    const Point p =
        search(R"({"use": "milenas", "lambda": )" + std::string(lambda) + ", " + losses + "}", 0.05, 5000, -2, 2);
    EXPECT_NEAR(p.w, 2, 1e-6) << lambda;
    EXPECT_NEAR(p.alpha, 2, 1e-6) << lambda;
  }
}

// With xi = 1/2 a step ahead solves the inner problem exactly: w' = w - 1/2 (2 w - 2 alpha) = alpha. So the second
// order descends on the outer problem itself, alpha^2 - 2 alpha + 1, and ends at its minimum (1, 1). All is quadratic,
// so the finite difference is exact but for rounding.
TEST(DartsSearch, OfTheSecondOrderWithTheRateOfTheInnerProblemFindsTheMinimum) {
  SearchRun run(solvable(-2, 2), R"({"use": "sgd", "lr": 0.5})", R"({"use": "sgd", "lr": 0.05})");
  run.validation = [](int64_t) { return nothing(); };
  const auto c = controller(R"({"use": "darts", "order": "second", )" + std::string(losses) + "}");
  c->stage_begin(run);
  double alpha = 2;
  for (int64_t i = 0; i < 400; ++i) {
    run.step(*c, nothing());
    alpha -= 0.05 * (2 * alpha - 2);
    c->epoch_end(run);
    ASSERT_NEAR(run.metrics().at("alpha"), alpha, 1e-11) << i;
    ASSERT_NEAR(run.metrics().at("w"), alpha, 1e-11) << "the weight solves the inner problem";
  }
  EXPECT_NEAR(alpha, 1, 1e-6);
}

// Together they minimise L_a + L_p = w^2 - alpha w + alpha^2 - 2 alpha + 1, whose gradients 2 w - alpha and 2 alpha - w
// - 2 are zero at (2/3, 4/3).
TEST(JointSearch, MinimisesTheSumOfItsLosses) {
  const Point p =
      search(R"({"use": "joint", "losses": ["auxiliary", "primary"], "watch": ["w", "alpha"]})", 0.05, 2000, -2, 2);
  EXPECT_NEAR(p.w, 2. / 3, 1e-9);
  EXPECT_NEAR(p.alpha, 4. / 3, 1e-9);
}

TEST(RartsSearch, BeginsThePrimaryModelAsItIsTold) {
  const auto first = [](const std::string& more) {
    SearchRun run(solvable(-2, 2), R"({"use": "sgd", "lr": 0.01})", R"({"use": "sgd", "lr": 0.01})");
    const auto c = controller(R"({"use": "rarts", "watch": ["w", "alpha"])" + more + "}");
    c->stage_begin(run);
    c->epoch_end(run);
    EXPECT_EQ(run.metrics().at("w"), -2);
    EXPECT_EQ(run.metrics().at("alpha"), 2);
    return run.metrics().at("u");
  };
  EXPECT_EQ(first(""), -2);
  EXPECT_EQ(first(R"(, "primary_values": {"w": 0.25})"), 0.25);
}

TEST(RartsSearch, DrawsThePrimaryModelAnewAndLeavesTheSharedParametersAlone) {
  load_plugins();
  GraphBuilder g({.channels = features});
  const Edge x = g.linear("fc1", g.input(), {.features = hidden});
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 0.5}}), {2}));
  SearchRun run(g.output(g.linear("fc2", g.node("weighted_sum", "mixed", {g.activation("tanh", x), x, alpha}),
                                  {.features = classes})),
                R"({"use": "sgd", "lr": 0.01})", R"({"use": "sgd", "lr": 0.01})");
  const Weights& w = run.weights();
  const at::Tensor before = w.bank(Role::architecture).values.flat().clone();
  const auto c = controller(R"({"use": "rarts", "primary": "drawn"})");
  c->stage_begin(run);
  EXPECT_TRUE(w.bank(Role::architecture).values.flat().equal(before));
  const auto u = run.follower();
  ASSERT_TRUE(u);
  const ParamId weight = run.graph().parameter("fc1.weight");
  const at::Tensor difference = (*u)[weight].detach() - w[weight].detach();
  EXPECT_TRUE(difference.ne(0).all().item<bool>());
  EXPECT_LE((*u)[weight].detach().abs().max().item<double>(), 1) << "drawn as the others: within 1 / sqrt(3)";
}

// ---- a small network, here and in plain LibTorch ----

// Three operations of a hidden layer (tanh, sigmoid, identity), mixed by the softmax of alpha.
Graph network() {
  load_plugins();
  GraphBuilder g({.channels = features});
  const Edge x = g.linear("fc1", g.input(), {.features = hidden});
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 0.5}}), {3}));
  const Edge mixed = g.node("weighted_sum", "mixed", {g.activation("tanh", x), g.activation("sigmoid", x), x, alpha});
  return g.output(g.linear("fc2", mixed, {.features = classes}));
}

constexpr std::array<const char*, 4> weight_names{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};

at::Tensor loss_of(const Tensors& w, const at::Tensor& alpha, const Batch& batch) {
  const at::Tensor x = at::linear(batch.input(), w[0], w[1]);
  const at::Tensor p = at::softmax(alpha, 0);
  const at::Tensor y = p[0] * at::tanh(x) + p[1] * at::sigmoid(x) + p[2] * x;
  return at::cross_entropy_loss(at::linear(y, w[2], w[3]), batch.target());
}

Batch batch_of(uint64_t seed) {
  static const Graph graph = network();
  return {.inputs = {{"input", testkit::input_of(graph, samples, seed)}},
          .targets = {{"target", testkit::target_of(classes, samples, seed)}}};
}
Batch train_batch(int64_t step) {
  return batch_of(1000 + static_cast<uint64_t>(step));
}
Batch validation_batch(int64_t step) {
  return batch_of(5000 + static_cast<uint64_t>(step));
}

Tensors leaves(const Tensors& values) {
  Tensors all;
  for (const at::Tensor& v : values) all.push_back(v.detach().clone().set_requires_grad(true));
  return all;
}

struct Gradients {
  Tensors w;
  at::Tensor alpha;
};

Gradients gradients(const Tensors& w, const at::Tensor& alpha, const Batch& batch) {
  Tensors of = leaves(w);
  of.push_back(alpha.detach().clone().set_requires_grad(true));
  const at::Tensor loss = loss_of({of.begin(), of.end() - 1}, of.back(), batch);
  Tensors g = torch::autograd::grad({loss}, of);
  const at::Tensor last = g.back();
  g.pop_back();
  return {g, last};
}

double norm(const Tensors& v) {
  double squares = 0;
  for (const at::Tensor& t : v) squares += t.square().sum().item<double>();
  return std::sqrt(squares);
}

Tensors plus(const Tensors& a, const Tensors& b, double factor) {
  Tensors sum;
  for (size_t i = 0; i < a.size(); ++i) sum.push_back(a[i] + factor * b[i]);
  return sum;
}

// Stochastic gradient descent with momentum and weight decay, as PyTorch documents it.
struct Momentum {
  double rate, momentum, decay;
  Tensors buffer{};

  void step(Tensors& w, const Tensors& gradient) {
    for (size_t i = 0; i < w.size(); ++i) {
      const at::Tensor g = gradient[i] + decay * w[i];
      if (buffer.size() <= i) {
        buffer.push_back(g);
      } else {
        buffer[i] = momentum * buffer[i] + g;
      }
      w[i] = w[i] - rate * buffer[i];
    }
  }
};

// Adam with weight decay in the gradient, as PyTorch documents it.
struct AdamOf {
  double rate, beta1, beta2, decay, eps = 1e-8;
  at::Tensor mean{}, square{};
  int64_t t = 0;

  at::Tensor step(const at::Tensor& x, at::Tensor g) {
    g = g + decay * x;
    if (t == 0) mean = at::zeros_like(x), square = at::zeros_like(x);
    ++t;
    mean = beta1 * mean + (1 - beta1) * g;
    square = beta2 * square + (1 - beta2) * g * g;
    const at::Tensor m = mean / (1 - std::pow(beta1, t)), s = square / (1 - std::pow(beta2, t));
    return x - rate * m / (s.sqrt() + eps);
  }
};

constexpr const char* sgd_spec = R"({"use": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})";
constexpr const char* adam_spec = R"({"use": "adam", "lr": 0.02, "beta1": 0.5, "weight_decay": 0.001})";

// A run of the network, and its values for the transcription.
struct Beside {
  explicit Beside(const std::string& spec) : run(network(), sgd_spec, adam_spec), c(controller(spec)) {
    run.validation = validation_batch;
    c->stage_begin(run);
    for (const char* name : weight_names) w.push_back(run.weights()[run.graph().parameter(name)].detach().clone());
    alpha = value("alpha.value");
  }
  at::Tensor value(const char* name) { return run.weights()[run.graph().parameter(name)].detach().clone(); }
  // The run does a step with the batch of the step.
  void step() { run.step(*c, train_batch(run.at_step)); }
  // The largest difference between what the run has and what is expected.
  double difference(const Weights& of, const Tensors& expected) {
    double largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const at::Tensor d = of[run.graph().parameter(weight_names[i])].detach() - expected[i];
      largest = std::max(largest, d.abs().max().item<double>());
    }
    return std::max(largest, (of[run.graph().parameter("alpha.value")].detach() - alpha).abs().max().item<double>());
  }

  SearchRun run;
  std::unique_ptr<Controller> c;
  Tensors w;
  at::Tensor alpha;
};

constexpr int64_t steps = 50;
// Two ways to compute the same in float64 differ by rounding alone, some 1e-16 in each step, which 50 steps amplify.
constexpr double same = 1e-9;

TEST(ArchitectureSearch, ItsNetworkIsThatOfTheTranscription) {
  Beside b(R"({"use": "joint"})");
  EXPECT_NEAR(b.run.loss(train_batch(0), {}).item<double>(), loss_of(b.w, b.alpha, train_batch(0)).item<double>(),
              1e-14);
}

TEST(DartsSearch, OfTheFirstOrderEqualsItsTranscription) {
  for (const bool weights_first : {false, true}) {
    Beside b(weights_first ? R"({"use": "darts", "order": "first", "begin_with": "weights"})"
                           : R"({"use": "darts", "order": "first"})");
    Momentum of_w{0.1, 0.9, 0.01};
    AdamOf of_alpha{0.02, 0.5, 0.999, 0.001};
    const at::Tensor first = b.alpha;
    for (int64_t t = 0; t < steps; ++t) {
      b.step();
      if (weights_first) of_w.step(b.w, gradients(b.w, b.alpha, train_batch(t)).w);
      b.alpha = of_alpha.step(b.alpha, gradients(b.w, b.alpha, validation_batch(t)).alpha);
      if (!weights_first) of_w.step(b.w, gradients(b.w, b.alpha, train_batch(t)).w);
      ASSERT_LT(b.difference(b.run.weights(), b.w), same) << "step " << t;
    }
    EXPECT_GT((b.alpha - first).abs().max().item<double>(), 0.05) << "the architecture has moved";
    EXPECT_EQ(b.run.passes, 2 * steps);
  }
}

// The authors' program (quark0/darts, architect.py): `term` multiplies the finite difference, and is 1 there.
double second_order_difference(double term) {
  Beside b(R"({"use": "darts", "order": "second"})");
  Momentum of_w{0.1, 0.9, 0.01};
  AdamOf of_alpha{0.02, 0.5, 0.999, 0.001};
  for (int64_t t = 0; t < steps; ++t) {
    b.step();
    const double eta = of_w.rate;
    const Tensors g = gradients(b.w, b.alpha, train_batch(t)).w;
    Tensors ahead;
    for (size_t i = 0; i < g.size(); ++i) {
      const at::Tensor moment = of_w.buffer.empty() ? at::zeros_like(g[i]) : of_w.momentum * of_w.buffer[i];
      ahead.push_back(b.w[i] - eta * (moment + g[i] + of_w.decay * b.w[i]));
    }
    const Gradients direct = gradients(ahead, b.alpha, validation_batch(t));
    const double r = 0.01 / norm(direct.w);
    const at::Tensor up = gradients(plus(b.w, direct.w, r), b.alpha, train_batch(t)).alpha;
    const at::Tensor down = gradients(plus(b.w, direct.w, -r), b.alpha, train_batch(t)).alpha;
    b.alpha = of_alpha.step(b.alpha, direct.alpha - term * eta * (up - down) / (2 * r));
    of_w.step(b.w, gradients(b.w, b.alpha, train_batch(t)).w);
  }
  EXPECT_EQ(b.run.passes, 5 * steps);
  return b.difference(b.run.weights(), b.w);
}

TEST(DartsSearch, OfTheSecondOrderEqualsItsTranscription) {
  EXPECT_LT(second_order_difference(1), same);
}

// What the comparison before must notice: a term that is missing or has the other sign.
TEST(DartsSearch, OfTheSecondOrderIsToldFromAMissingTermAndFromTheOtherSign) {
  EXPECT_GT(second_order_difference(0), 1e-4);
  EXPECT_GT(second_order_difference(-1), 1e-4);
}

// The finite difference against the exact product -(d^2 L_a / d alpha d w) (eta v) by double differentiation, with a
// rate for each weight. The error of a central difference is of the order of epsilon^2, here 1e-6 of its size; the
// bound is 1e-4.
void expect_the_exact_product(const std::array<double, 4>& rates) {
  for (const int64_t trial : {0, 1, 2, 3, 4}) {
    constexpr double eta = 0.3, decay = 0.01;  // of the step ahead
    SearchRun run(network(), R"({"use": "sgd", "lr": 0.3, "weight_decay": 0.01})", R"({"use": "sgd", "lr": 1})");
    run.at_step = trial;
    run.validation = validation_batch;
    for (size_t i = 0; i < rates.size(); ++i) run.rates[weight_names[i]] = rates[i];
    const auto c = controller(R"({"use": "darts", "order": "second", "epsilon": 0.001})");
    c->stage_begin(run);
    Tensors w;
    for (const char* name : weight_names) w.push_back(run.weights()[run.graph().parameter(name)].detach().clone());
    const ParamId id = run.graph().parameter("alpha.value");
    const at::Tensor alpha = run.weights()[id].detach().clone();
    run.step(*c, train_batch(trial));

    const Tensors g = gradients(w, alpha, train_batch(trial)).w;
    const Gradients direct = gradients(plus(plus(w, g, -eta), w, -eta * decay), alpha, validation_batch(trial));
    // d/d alpha of <grad_w L_a(w, alpha), eta v>.
    const Tensors of = leaves(w);
    const at::Tensor a = alpha.clone().set_requires_grad(true);
    const Tensors first = torch::autograd::grad({loss_of(of, a, train_batch(trial))}, of, {}, true, true);
    at::Tensor product = at::zeros({}, at::kDouble);
    for (size_t i = 0; i < first.size(); ++i) product = product + rates[i] * (first[i] * direct.w[i]).sum();
    const at::Tensor exact = -torch::autograd::grad({product}, {a})[0];
    // With a rate of 1 the change of alpha is the gradient that it had.
    const at::Tensor found = alpha - run.weights()[id].detach() - direct.alpha;
    const double size = exact.abs().max().item<double>();
    EXPECT_GT(size, 1e-4) << "there is something to find";
    EXPECT_LT((found - exact).abs().max().item<double>(), 1e-4 * size) << "trial " << trial;
    EXPECT_GT((found + exact).abs().max().item<double>(), size) << "the sign";
    EXPECT_GT(found.abs().max().item<double>(), size / 2) << "it is there";
  }
}

TEST(DartsSearch, ItsFiniteDifferenceIsTheProductWithTheMixedDerivatives) {
  expect_the_exact_product({0.3, 0.3, 0.3, 0.3});
}

TEST(DartsSearch, ItsSecondOrderKnowsTheRateOfEachWeight) {
  expect_the_exact_product({0.3, 0.1, 0, 1});
}

// (2.23), the weights first.
TEST(MilenasSearch, EqualsItsTranscription) {
  Beside b(R"({"use": "milenas", "lambda": 0.7})");
  Momentum of_w{0.1, 0.9, 0.01};
  AdamOf of_alpha{0.02, 0.5, 0.999, 0.001};
  for (int64_t t = 0; t < steps; ++t) {
    b.step();
    of_w.step(b.w, gradients(b.w, b.alpha, train_batch(t)).w);
    const at::Tensor a = gradients(b.w, b.alpha, train_batch(t)).alpha,
                     p = gradients(b.w, b.alpha, validation_batch(t)).alpha;
    b.alpha = of_alpha.step(b.alpha, a + 0.7 * p);
    ASSERT_LT(b.difference(b.run.weights(), b.w), same) << "step " << t;
  }
  EXPECT_EQ(b.run.passes, 3 * steps);
}

// (2.34) with gamma P(alpha) = .03 |alpha|_1, whose gradient the third step alone has.
TEST(RartsSearch, EqualsItsTranscription) {
  Beside b(R"({"use": "rarts", "lambda": 0.6, "beta": 2})");
  b.run.regularizers.push_back(SearchRun::make<Regularizer>(R"({"use": "l1", "on": "architecture", "weight": 0.03})"));
  Momentum of_w{0.1, 0.9, 0.01}, of_u{0.1, 0.9, 0.01};
  AdamOf of_alpha{0.02, 0.5, 0.999, 0.001};
  Tensors u = b.w;
  for (int64_t t = 0; t < steps; ++t) {
    b.step();
    const auto coupled = [](const Tensors& g, double factor, const Tensors& from, const Tensors& to) {
      Tensors sum;
      for (size_t i = 0; i < g.size(); ++i) sum.push_back(factor * g[i] + 2 * (from[i] - to[i]));
      return sum;
    };
    of_w.step(b.w, coupled(gradients(b.w, b.alpha, train_batch(t)).w, 0.6, b.w, u));
    of_u.step(u, coupled(gradients(u, b.alpha, validation_batch(t)).w, 1, u, b.w));
    const at::Tensor a = gradients(b.w, b.alpha, train_batch(t)).alpha,
                     p = gradients(u, b.alpha, validation_batch(t)).alpha;
    b.alpha = of_alpha.step(b.alpha, 0.6 * a + p + 0.03 * b.alpha.sign());
    ASSERT_LT(b.difference(b.run.weights(), b.w), same) << "step " << t;
    ASSERT_LT(b.difference(*b.run.follower(), u), same) << "step " << t;
  }
  EXPECT_EQ(b.run.passes, 4 * steps);
  b.c->epoch_end(b.run);
  EXPECT_NEAR(b.run.metrics().at("distance"), norm(plus(u, b.w, -1)), same);
  EXPECT_GT(b.run.metrics().at("distance"), 1e-3) << "the models differ";
}

TEST(JointSearch, IsTheOrdinaryStep) {
  Beside b(R"({"use": "joint"})");
  SearchRun ordinary(network(), sgd_spec, adam_spec);
  for (int64_t t = 0; t < 5; ++t) {
    ordinary.train_step(train_batch(t));
    b.step();
  }
  for (const Role role : {Role::weight, Role::architecture})
    EXPECT_TRUE(ordinary.weights().bank(role).values.flat().equal(b.run.weights().bank(role).values.flat()));
}

// Theorem 2.2 on a network, by the controller itself: with rates just below (2.15) the Lagrangian descends in every
// step. L is three times the Frobenius norm of the second derivatives at the beginning, which is at least the spectral
// norm, and the test sees that this holds where the search goes.
double curvature(const Tensors& w, const at::Tensor& alpha, const Batch& batch) {
  Tensors of = leaves(w);
  of.push_back(alpha.clone().set_requires_grad(true));
  const Tensors first =
      torch::autograd::grad({loss_of({of.begin(), of.end() - 1}, of.back(), batch)}, of, {}, true, true);
  Tensors rows;
  for (const at::Tensor& g : first) {
    for (const at::Tensor& element : g.flatten().unbind()) {
      Tensors row = torch::autograd::grad({element}, of, {}, true, false, true);
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = row[i].defined() ? row[i].flatten() : at::zeros({of[i].numel()}, at::kDouble);
      rows.push_back(at::cat(row));
    }
  }
  return at::stack(rows).norm().item<double>();
}

TEST(RartsSearch, DescendsOnANetworkBelowTheBoundsOfTheRates) {
  const double lambda = 0.7, beta = 1.5;
  const Batch train = train_batch(0), validation = validation_batch(0);
  Beside values(R"({"use": "rarts", "primary": "drawn"})");
  const double l =
      3 * std::max(curvature(values.w, values.alpha, train), curvature(values.w, values.alpha, validation));
  const double of_weights = 0.999 / (beta + 2 * std::max(1., lambda) * l), of_alpha = 0.999 / (2 * (1 + lambda) * l);
  SearchRun run(network(), R"({"use": "sgd", "lr": )" + std::to_string(of_weights) + "}",
                R"({"use": "sgd", "lr": )" + std::to_string(of_alpha) + "}");
  run.validation = [&](int64_t) { return validation; };
  const auto c = controller(R"({"use": "rarts", "lambda": 0.7, "beta": 1.5, "primary": "drawn"})");
  c->stage_begin(run);
  const auto weights_of = [&](const Weights& from) {
    Tensors all;
    for (const char* name : weight_names) all.push_back(from[run.graph().parameter(name)].detach().clone());
    return all;
  };
  const auto alpha = [&] { return run.weights()[run.graph().parameter("alpha.value")].detach().clone(); };
  const auto lagrangian = [&] {
    const Tensors w = weights_of(run.weights()), u = weights_of(*run.follower());
    const double distance = norm(plus(u, w, -1));
    return loss_of(u, alpha(), validation).item<double>() + lambda * loss_of(w, alpha(), train).item<double>() +
           beta / 2 * distance * distance;
  };
  const double first = lagrangian();
  double before = first;
  for (int t = 0; t < 400; ++t) {
    run.step(*c, train);
    const double now = lagrangian();
    ASSERT_LE(now, before) << "step " << t;
    before = now;
    if (t % 100 != 99) continue;
    ASSERT_LE(curvature(weights_of(run.weights()), alpha(), train), l);
    ASSERT_LE(curvature(weights_of(*run.follower()), alpha(), validation), l);
  }
  EXPECT_LT(before, 0.8 * first) << "it has gone somewhere";
}

// ---- other networks ----

// Batch norms: of the two models each has statistics of its own, and both see two batches in each step.
TEST(RartsSearch, HasStatisticsOfEachModelAndGatesAsArchitecture) {
  load_plugins();
  GraphBuilder g({.channels = 2, .height = 5, .width = 5});
  const Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 3, .kernel = 3, .bias = false})));
  Graph graph = g.output(g.linear("fc", g.flatten(x), {.features = classes}));
  const InsertGate gate{.gate = "gate", .edge = "bn1", .axis = "", .initial = 1, .role = "architecture", .readers = {}};
  apply(graph, {}, Edit{gate});
  const auto batch = [&graph](uint64_t seed, double mean) -> Batch {
    return {.inputs = {{"input", testkit::input_of(graph, samples, seed) + mean}},
            .targets = {{"target", testkit::target_of(classes, samples, seed)}}};
  };
  SearchRun run(graph, R"({"use": "sgd", "lr": 0.05})", R"({"use": "sgd", "lr": 0.05})");
  run.validation = [&](int64_t step) { return batch(100 + static_cast<uint64_t>(step), 2); };
  const auto c = controller(R"({"use": "rarts"})");
  c->stage_begin(run);
  const ParamId mean = run.graph().parameter("bn1.running_mean");
  const ParamId alpha = run.graph().parameter("gate.coefficient.value");
  ASSERT_EQ(run.graph()[alpha].role, Role::architecture);
  for (uint64_t t = 0; t < 3; ++t) run.step(*c, batch(t, -2));
  const Weights& u = *run.follower();
  EXPECT_GT((run.weights()[mean] - u[mean]).abs().max().item<double>(), 0.1)
      << "the parts of the data have other means, so the statistics differ";
  EXPECT_EQ(run.weights()[alpha].data_ptr(), u[alpha].data_ptr()) << "alpha is one for both";
  EXPECT_GT((run.weights()[alpha].detach() - 1).abs().max().item<double>(), 1e-3) << "gates are searched";
}

// A pass for the architecture parameters leaves the gradients of the weights alone, on every path that the CPU has for
// float32: what the second order keeps there must not change.
TEST(ArchitectureSearch, PassesOfOneRoleLeaveTheOtherAlone) {
  load_plugins();
  GraphBuilder g({.channels = 3, .height = 8, .width = 8});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 4, .kernel = 3, .padding = 1})));
  x = g.max_pool(x, 2);
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 0.5}}), {2}));
  x = g.node("weighted_sum", "mixed", {g.activation("tanh", x), x, alpha});
  x = g.relu(g.linear("fc1", g.flatten(x), {.features = 6}));
  const Graph graph = g.output(g.linear("fc2", x, {.features = classes}));
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    Weights w(graph, type, at::kCPU);
    w.initialize(graph, RandomKey(1));
    for (const Role of : {Role::weight, Role::architecture}) {
      const Role other = of == Role::weight ? Role::architecture : Role::weight;
      w.zero_gradients();
      for (const ParamId p : w.bank(other).parameters) w[p].set_requires_grad(false);
      const at::Tensor input = testkit::input_of(graph, samples, 7, type);
      const at::Tensor logits = run(graph, w, {{"input", input}}, {"logits"}, {.training = true, .key = {}})[0];
      at::cross_entropy_loss(logits, testkit::target_of(classes, samples, 7)).backward();
      for (const ParamId p : w.bank(other).parameters) w[p].set_requires_grad(true);
      EXPECT_EQ(w.bank(other).gradients.flat().abs().sum().item<double>(), 0);
      EXPECT_GT(w.bank(of).gradients.flat().abs().sum().item<double>(), 0);
    }
  }
}

// ---- what is refused ----

std::string refusal(const std::string& spec, const Graph& graph) {
  try {
    controller(spec)->check(graph);
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was refused";
}

TEST(ArchitectureSearch, RefusesWhatItCannotSearch) {
  load_plugins();
  GraphBuilder g({.channels = features});
  const Graph plain = g.output(g.linear("fc", g.input(), {.features = classes}));
  for (const char* name : {"rarts", "darts", "milenas", "joint"})
    EXPECT_THAT(refusal(R"({"use": ")" + std::string(name) + "\"}", plain), HasSubstr("no architecture parameters"));
  const Graph two = solvable(0, 0);
  EXPECT_THAT(refusal(R"({"use": "rarts", "train_loss": "auxilary"})", two), HasSubstr("auxiliary'?"));
  EXPECT_THAT(refusal(R"({"use": "darts", "validation_loss": "logits"})", two), HasSubstr("no single number"));
  EXPECT_THAT(refusal(R"({"use": "joint", "losses": ["primary", "nothing"]})", two), HasSubstr("no output 'nothing'"));
  EXPECT_THAT(refusal(R"({"use": "rarts", "primary_values": {"alpha": 0}})", two), HasSubstr("the models share it"));
  EXPECT_EQ(refusal(R"({"use": "rarts", "train_loss": "auxiliary", "validation_loss": "primary"})", two),
            "nothing was refused");
}

TEST(ArchitectureSearch, SaysWhatAStepTakes) {
  const auto cost = [](const std::string& spec) {
    const auto c = controller(spec);
    const auto* step = dynamic_cast<const OwnStep*>(c.get());
    EXPECT_TRUE(step) << spec;
    return step ? step->step_cost() : StepCost();
  };
  EXPECT_EQ(cost(R"({"use": "rarts"})").passes, 4);
  EXPECT_EQ(cost(R"({"use": "rarts"})").copies, 2);
  EXPECT_EQ(cost(R"({"use": "darts"})").passes, 2);
  EXPECT_EQ(cost(R"({"use": "darts", "order": "second"})").passes, 5);
  EXPECT_EQ(cost(R"({"use": "milenas"})").passes, 3);
  EXPECT_EQ(cost(R"({"use": "joint"})").passes, 1);
  EXPECT_EQ(cost(R"({"use": "joint"})").parts, std::vector<std::string>{"train"});
  EXPECT_EQ(cost(R"({"use": "milenas"})").parts, (std::vector<std::string>{"train", "validation"}));
}

}  // namespace
}  // namespace espalier
