// The operation `competition` against paper 004's formulas in plain loops, and its gradients.
#include <map>
#include <memory>

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/registry.h>
#include <espalier/regularizer.h>

#include "coefficients_by_hand.h"

namespace espalier {
namespace {

// A sum of exactly such numbers, in another order: a few times the rounding of float64.
constexpr double rounding = 1e-14;

// Three are above the threshold and two below; nothing is near it.
const Numbers mixed{1.2, -3.5, 0.4, -2.8, -0.3};
constexpr double beta = -2.0;

std::unique_ptr<Regularizer> competition_norm(const std::string& options = R"("weight": 1)") {
  return Registry::instance().create<Regularizer>(from_json(R"({"use": "competition_norm", )" + options + "}"));
}

// R(a) by the regularizer with weight 1.
double norm_of(const Graph& g, Weights& w, const std::string& options = R"("weight": 1)") {
  at::Tensor value = at::zeros({}, at::kDouble);
  w.zero_gradients();
  competition_norm(options)->add(g, w, value);
  return value.item<double>();
}

struct Coefficients {
  Graph graph;
  Weights weights;
  Coefficients(const std::string& options, int64_t n, at::ScalarType dtype = at::kDouble)
      : graph(coefficients_of(options, n)), weights(graph, dtype, at::kCPU) {
    weights.initialize(graph, RandomKey(1));
  }
  void set(const std::string& name, const Numbers& values) { assign(graph, weights, "c." + name, values); }
  at::Tensor values(const Pass& pass = {}) const { return coefficients(graph, weights, pass); }
  at::Tensor gradient(const std::string& name) const { return weights.gradient(graph.parameter("c." + name)); }
};

TEST(Competition, BeginsWithEqualChances) {
  for (const char* gamma : {"sigmoid", "exp"}) {
    for (int64_t n = 2; n <= 64; ++n) {
      const std::string form = std::string(R"({"gamma": ")") + gamma + "\"";
      const auto count = static_cast<double>(n);
      const Coefficients c(form + "}", n);
      for (const double a : numbers_of(c.values())) EXPECT_NEAR(a, 1 / count, rounding) << n;
      EXPECT_NEAR(c.weights[c.graph.parameter("c.beta")].item<double>(), beta_of(n), rounding * std::log(count));
      // With the null component there are n + 1 equal shares.
      const Coefficients with(form + R"(, "null_component": true})", n);
      const Numbers a = numbers_of(with.values());
      for (const double v : a) EXPECT_NEAR(v, 1 / (count + 1), rounding) << n;
      EXPECT_NEAR(1 - sum_of(a), 1 / (count + 1), count * rounding) << "the share of the null component";
    }
  }
}

TEST(Competition, HasTheValuesOfThePaper) {
  for (const bool exponential : {false, true}) {
    for (const bool null : {false, true}) {
      for (const bool scaled : {false, true}) {
        const std::string options = std::string(R"({"gamma": ")") + (exponential ? "exp" : "sigmoid") +
                                    R"(", "null_component": )" + (null ? "true" : "false") + R"(, "scale": ")" +
                                    (scaled ? "count" : "one") + "\"}";
        Coefficients c(options, 5);
        for (const auto& [alpha, b] : std::vector<std::pair<Numbers, double>>{
                 {mixed, beta}, {{0, 0, 0, 0, 0}, beta_of(5)}, {{3, -1, -1, -1, -1}, -1.5}, {mixed, -30}}) {
          c.set("alpha", alpha);
          c.set("beta", {b});
          const ByHand hand = ByHand{.exponential = exponential, .null = null}.of(alpha, b);
          const Numbers a = numbers_of(c.values());
          for (size_t i = 0; i < a.size(); ++i) {
            EXPECT_NEAR(a[i], hand.values[i] * (scaled ? 5 : 1), 5 * rounding) << options << " " << i;
            EXPECT_EQ(a[i] == 0, hand.values[i] == 0) << "exactly zero, and only then";
          }
        }
      }
    }
  }
  Coefficients some(R"({})", 5);
  some.set("alpha", mixed);
  some.set("beta", {beta});
  const Numbers a = numbers_of(some.values());
  EXPECT_EQ(std::ranges::count(a, 0.0), 2);
  EXPECT_NEAR(sum_of(a), 1, rounding);
}

TEST(Competition, BeginsWhereItsOptionsSay) {
  const Coefficients c(R"({"alpha": 0.7, "beta": -3})", 3);
  EXPECT_EQ(numbers_of(c.weights[c.graph.parameter("c.alpha")]), (Numbers{0.7, 0.7, 0.7}));
  EXPECT_EQ(c.weights[c.graph.parameter("c.beta")].item<double>(), -3);
  EXPECT_EQ(numbers_of(Coefficients(R"({"form": "sampled"})", 3).weights[c.graph.parameter("c.alpha")]),
            (Numbers{0.5, 0.5, 0.5}));
  for (const double a : numbers_of(Coefficients(R"({"form": "free"})", 4).values())) EXPECT_EQ(a, 0.25);
  for (const double a : numbers_of(Coefficients(R"({"form": "softmax"})", 4).values())) EXPECT_NEAR(a, 0.25, rounding);
}

TEST(Competition, SoftmaxAndFreeFormsAreThoseOfTheirNames) {
  Coefficients s(R"({"form": "softmax"})", 5), f(R"({"form": "free", "scale": "count"})", 5);
  s.set("alpha", mixed);
  f.set("alpha", mixed);
  double sum = 0;
  for (const double x : mixed) sum += std::exp(x);
  const Numbers a = numbers_of(s.values()), b = numbers_of(f.values());
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(a[i], std::exp(mixed[i]) / sum, rounding);
    EXPECT_EQ(b[i], 5 * mixed[i]);
  }
  // Of large numbers, too.
  s.set("alpha", {800, 801, 0, -800, 800});
  EXPECT_NEAR(numbers_of(s.values())[1], 1 / (1 + 2 * std::exp(-1)), rounding);
}

TEST(Competition, GradientsAreThoseOfFiniteDifferences) {
  const at::Tensor direction = tensor_of({0.3, -1, 0.8, 0.5, -0.7});
  for (const char* options :
       {R"({})", R"({"gamma": "exp"})", R"({"null_component": true})", R"({"gamma": "exp", "null_component": true})",
        R"({"scale": "count"})", R"({"null_component": true, "scale": "count"})", R"({"form": "softmax"})",
        R"({"form": "softmax", "scale": "count"})", R"({"form": "free"})"}) {
    SCOPED_TRACE(options);
    Coefficients c(options, 5);
    c.set("alpha", mixed);
    if (std::string(options).find("form") == std::string::npos) c.set("beta", {beta});
    expect_gradients(c.graph, c.weights, "c", [&] { return (c.values() * direction).sum(); });
  }
}

// The gradient with a unit of its own in the place of ReLU's slope, by the chain rule in plain loops.
struct HandGradient {
  Numbers alpha;
  double beta = 0;
};
HandGradient gradient_by_hand(const ByHand& h, const Numbers& direction, double b, const Numbers& slope) {
  const size_t n = h.gamma.size();
  double inner = 0;
  for (size_t i = 0; i < n; ++i) inner += direction[i] * h.values[i];
  Numbers of_gamma(n, 0);
  double of_threshold = 0;
  for (size_t i = 0; i < n; ++i) {
    const double of_left = (direction[i] - inner) / h.sum;  // of a positive part
    of_gamma[i] += slope[i] * of_left;
    of_threshold -= slope[i] * of_left;
    if (!h.null) continue;
    if (h.gamma[i] < h.threshold) {
      of_gamma[i] -= inner / h.sum;
    } else {
      of_threshold -= inner / h.sum;
    }
  }
  const double s = sigmoid_of(b);
  HandGradient g{.alpha = {}};
  for (size_t i = 0; i < n; ++i) {
    const double of_alpha = h.exponential ? h.gamma[i] : h.gamma[i] * (1 - h.gamma[i]);
    g.alpha.push_back((of_gamma[i] + s * of_threshold) * of_alpha);
  }
  g.beta = of_threshold * sum_of(h.gamma) * s * (1 - s);
  return g;
}

TEST(Competition, RevivalChangesGradientsAndNoValue) {
  const Numbers direction{0.3, -1, 0.8, 0.5, -0.7};
  for (const bool exponential : {false, true}) {
    for (const bool null : {false, true}) {
      const std::string common = std::string(R"({"gamma": ")") + (exponential ? "exp" : "sigmoid") +
                                 R"(", "null_component": )" + (null ? "true" : "false");
      const ByHand h = ByHand{.exponential = exponential, .null = null}.of(mixed, beta);
      Coefficients none(common + "}", 5);
      for (const auto& [options, of] : std::vector<std::pair<std::string, double (*)(double)>>{
               {R"(, "revive": "none")", [](double) { return 0.0; }},
               {R"(, "revive": "leaky")", [](double) { return 0.01; }},
               {R"(, "revive": "leaky", "slope": 0.3)", [](double) { return 0.3; }},
               {R"(, "revive": "elu")", [](double x) { return std::exp(x); }}}) {
        SCOPED_TRACE(common + options);
        Coefficients c(common + options + "}", 5);
        for (Coefficients* each : {&none, &c}) {
          each->set("alpha", mixed);
          each->set("beta", {beta});
        }
        // Not only near: the same bytes, and zeros are zeros.
        EXPECT_TRUE(c.values().equal(none.values()));
        EXPECT_EQ(c.values()[1].item<double>(), 0);
        Numbers slope;
        for (const double x : h.above) slope.push_back(x > 0 ? 1 : of(x));
        const HandGradient expected = gradient_by_hand(h, direction, beta, slope);
        (c.values() * tensor_of(direction)).sum().backward();
        const Numbers alpha = numbers_of(c.gradient("alpha"));
        for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(alpha[i], expected.alpha[i], 10 * rounding) << i;
        EXPECT_NEAR(c.gradient("beta").item<double>(), expected.beta, 10 * rounding);
      }
    }
  }
}

// What is dead by the paper's formula still moves the threshold: its own gradient is that of the sum alone.
TEST(Competition, WhatIsZeroHasTheGradientOfTheThresholdAlone) {
  Coefficients c("{}", 5);
  c.set("alpha", mixed);
  c.set("beta", {beta});
  (c.values() * tensor_of({0, 5, 0, 0, 0})).sum().backward();
  EXPECT_EQ(c.gradient("alpha").abs().max().item<double>(), 0) << "nothing asks for the dead component";
  c.weights.zero_gradients();
  (c.values() * tensor_of({1, 0, 0, 0, 0})).sum().backward();
  EXPECT_NE(c.gradient("alpha")[1].item<double>(), 0);
}

TEST(Competition, WithoutAnythingAboveTheThresholdThereIsNoNaN) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (const char* options : {"{}", R"({"null_component": true})", R"({"gamma": "exp"})", R"({"revive": "leaky"})",
                                R"({"revive": "elu", "null_component": true})"}) {
      // All at the threshold, all below, and one below: with sigmoid(beta) >= 1/n nothing may be left.
      for (const auto& [alpha, b] : std::vector<std::pair<Numbers, double>>{
               {{0, 0, 0}, 4.0}, {{0, 0, 0}, 50.0}, {{-90, -90, -90}, 0.0}, {{1, -40, -40}, -3.0}}) {
        SCOPED_TRACE(std::string(options) + " " + std::to_string(b));
        Coefficients c(options, 3, dtype);
        c.set("alpha", alpha);
        c.set("beta", {b});
        const at::Tensor a = c.values();
        EXPECT_TRUE(at::isfinite(a).all().item<bool>());
        if (b >= 0) {
          EXPECT_EQ(a.abs().max().item<double>(), 0);
        }
        a.sum().backward();
        const double norm = norm_of(c.graph, c.weights);
        if (b >= 0) {
          EXPECT_EQ(norm, 0);
        } else {
          EXPECT_NEAR(norm, std::string(options).find("null") == std::string::npos ? 1 : numbers_of(a)[0], 1e-6)
              << "rounding of float32";
        }
        for (const char* p : {"alpha", "beta"})
          EXPECT_TRUE(at::isfinite(c.gradient(p)).all().item<bool>()) << p << c.gradient(p);
      }
    }
  }
}

TEST(CompetitionNorm, IsOneOfOneAndTheirNumberOfEqualOnes) {
  for (const int64_t n : {2, 5, 64}) {
    Coefficients c("{}", n);
    // The square of a sum of n numbers.
    EXPECT_NEAR(norm_of(c.graph, c.weights), static_cast<double>(n), static_cast<double>(n) * rounding);
    Numbers one(static_cast<size_t>(n), -30);
    one[1] = 2;
    c.set("alpha", one);
    c.set("beta", {-5});
    EXPECT_NEAR(norm_of(c.graph, c.weights), 1, rounding);
  }
  for (const double p : {0.5, 0.25, 0.8, 1.0}) {
    Coefficients c(R"({"scale": "count"})", 5);
    c.set("alpha", mixed);
    c.set("beta", {beta});
    double sum = 0;
    const ByHand hand = ByHand{}.of(mixed, beta);
    for (const double a : hand.values) sum += a > 0 ? std::pow(a, p) : 0;
    // The scale is none of its business: R is that of coefficients which sum to one.
    const double expected = std::pow(sum, 1 / p);
    EXPECT_NEAR(norm_of(c.graph, c.weights, R"("weight": 2, "p": )" + std::to_string(p)), 2 * expected,
                20 * expected * rounding / p);
  }
}

TEST(CompetitionNorm, HasTheGradientOfItsValue) {
  for (const char* options :
       {"{}", R"({"gamma": "exp", "null_component": true})", R"({"scale": "count", "revive": "none"})",
        R"({"form": "softmax"})", R"({"form": "free"})"}) {
    for (const char* p : {"0.5", "0.25", "0.9"}) {
      SCOPED_TRACE(std::string(options) + " p " + p);
      Coefficients c(options, 5);
      c.set("alpha", mixed);
      if (std::string(options).find("form") == std::string::npos) c.set("beta", {beta});
      // Central differences with a step of 1e-5: their error is the third derivative's, of order 1e-10.
      EXPECT_LE(
          testkit::gradient_error(*competition_norm(R"("weight": 0.7, "p": )" + std::string(p)), c.graph, c.weights),
          1e-7);
    }
  }
}

TEST(CompetitionNorm, HasAWeightForEachSelector) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  GraphBuilder b({3});
  const Edge x = b.linear("fc", b.input(), {.features = 4});
  const Edge y = b.scale(x, b.node("competition", "one", {}, Value::map(), {4}));
  Graph g = b.output(b.scale(b.linear("fc2", y, {.features = 3}), b.node("competition", "two", {}, Value::map(), {3})));
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const double total = norm_of(g, w, R"("weight": {"one.*": 2, "two.*": 10})");
  EXPECT_NEAR(total, 2 * 4 + 10 * 3, 40 * rounding) << "R of n equal ones is n";
  EXPECT_NEAR(norm_of(g, w, R"("weight": {"two.*": 10})"), 30, 40 * rounding) << "the others have none";
  // A network without any coefficients has no penalty, and nothing to differentiate.
  GraphBuilder p({3});
  const Graph plain = p.output(p.linear("fc", p.input(), {.features = 4}));
  Weights of_plain(plain, at::kDouble, at::kCPU);
  EXPECT_EQ(norm_of(plain, of_plain), 0);
}

// alive: what has left is zero, while its gamma counts in the threshold: the others are beside it as beside a zero.
TEST(Competition, WhatHasLeftIsZeroAndCountsOnlyInTheThreshold) {
  for (const char* options : {"{}", R"({"null_component": true})", R"({"revive": "leaky"})"}) {
    Coefficients c(options, 5);
    c.set("alpha", mixed);
    c.set("beta", {beta});
    const at::Tensor before = c.values().detach().clone();
    c.set("alive", {1, 0, 1, 0, 1});
    EXPECT_TRUE(c.values().equal(before)) << "those that were zero";
    // The gamma of one that left rises above the threshold.
    Numbers risen = mixed;
    risen[1] = 1;
    c.set("alpha", risen);
    ByHand h = ByHand{.null = std::string(options).find("null") != std::string::npos}.of(risen, beta);
    const double sum = h.sum - std::max(h.above[1], 0.0);
    const Numbers a = numbers_of(c.values());
    EXPECT_EQ(a[1], 0);
    for (const size_t i : {0U, 2U, 4U}) EXPECT_NEAR(a[i], std::max(h.above[i], 0.0) / sum, 5 * rounding) << options;
    // Nothing can ask for it.
    c.weights.zero_gradients();
    (c.values() * tensor_of({0, 1, 0, 0, 0})).sum().backward();
    EXPECT_EQ(c.gradient("alpha").abs().max().item<double>(), 0);
  }
  Coefficients s(R"({"form": "softmax"})", 3), f(R"({"form": "free"})", 3);
  for (Coefficients* c : {&s, &f}) {
    c->set("alpha", {0, 3, std::log(3.0)});
    c->set("alive", {1, 0, 1});
  }
  const Numbers a = numbers_of(s.values());
  EXPECT_NEAR(a[0], 0.25, rounding);
  EXPECT_EQ(a[1], 0);
  EXPECT_NEAR(a[2], 0.75, rounding);
  EXPECT_EQ(numbers_of(f.values()), (Numbers{0, 0, std::log(3.0)}));
}

TEST(Competition, DrawsExactlySoManyInProportionToTheirAlpha) {
  constexpr int64_t n = 4, draws = 4000;
  Coefficients c(R"({"form": "sampled", "keep": 2})", n);
  const Numbers alpha{0.1, 0.4, 0.8, 0.7};
  c.set("alpha", alpha);
  // Without replacement in proportion to alpha: i first, then j of the rest.
  std::map<int, double> expected;
  const double sum = sum_of(alpha);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      if (i == j) continue;
      const double first = alpha[static_cast<size_t>(i)], second = alpha[static_cast<size_t>(j)];
      expected[(1 << i) | (1 << j)] += first / sum * second / (sum - first);
    }
  }
  std::map<int, double> seen;
  {
    const c10::NoGradGuard no_grad;
    for (int64_t d = 0; d < draws; ++d) {
      const Numbers a = numbers_of(c.values({.training = true, .key = RandomKey(7).with(static_cast<uint64_t>(d))}));
      int which = 0;
      for (int i = 0; i < n; ++i) {
        ASSERT_TRUE(a[static_cast<size_t>(i)] == 0 || a[static_cast<size_t>(i)] == 1);
        if (a[static_cast<size_t>(i)] == 1) which |= 1 << i;
      }
      ++seen[which];
    }
  }
  ASSERT_EQ(seen.size(), expected.size()) << "each pair, and nothing but pairs";
  for (const auto& [which, p] : expected) {
    // Five standard deviations of a binomial share: by chance once in 3e5 pairs, and the draws are fixed.
    EXPECT_NEAR(seen[which] / draws, p, 5 * std::sqrt(p * (1 - p) / draws)) << which;
  }
  // The same key draws the same; nodes of other names draw for themselves.
  const Pass pass{.training = true, .key = RandomKey(3)};
  EXPECT_TRUE(c.values(pass).equal(c.values(pass)));
  // Evaluation draws nothing.
  EXPECT_EQ(numbers_of(c.values()), (Numbers{0, 0, 1, 1}));
  EXPECT_EQ(numbers_of(c.values({.training = false, .key = RandomKey(9)})), (Numbers{0, 0, 1, 1}));
  // The gradient goes to all, as if alpha had been the coefficient.
  (c.values(pass) * tensor_of({1, 2, 3, 4})).sum().backward();
  EXPECT_EQ(numbers_of(c.gradient("alpha")), (Numbers{1, 2, 3, 4}));
  // What has left is not drawn, and more than there are cannot be.
  c.set("alive", {1, 1, 0, 1});
  for (uint64_t d = 0; d < 50; ++d) {
    const Numbers a = numbers_of(c.values({.training = true, .key = RandomKey(7).with(d)}));
    EXPECT_EQ(a[2], 0);
    EXPECT_EQ(sum_of(a), 2);
  }
  EXPECT_EQ(sum_of(numbers_of(Coefficients(R"({"form": "sampled", "keep": 9})", 3).values())), 3);
}

TEST(Competition, NodesOfOtherNamesDrawForThemselves) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  GraphBuilder b({3});
  const Value options = from_json(R"({"form": "sampled", "keep": 1})");
  const Edge one = b.node("competition", "one", {}, options, {8}), two = b.node("competition", "two", {}, options, {8});
  Graph g = b.output(b.linear("fc", b.input(), {.features = 4}));
  g.add_output("one", one);
  g.add_output("two", two);
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  int same = 0;
  for (uint64_t d = 0; d < 20; ++d) {
    const auto both = run(g, w, {}, {"one", "two"}, {.training = true, .key = RandomKey(7).with(d)});
    same += both[0].equal(both[1]);
  }
  EXPECT_LT(same, 10) << "by chance one in eight";
}

TEST(Competition, IsNoMatterForWeightDecay) {
  const Coefficients c("{}", 3);
  for (const char* name : {"c.alpha", "c.beta"}) {
    const Parameter& p = c.graph[c.graph.parameter(name)];
    EXPECT_EQ(p.role, Role::architecture) << name;
    EXPECT_EQ(p.kind, "competition") << name;
  }
  EXPECT_EQ(c.graph[c.graph.parameter("c.alive")].role, Role::buffer);
  const Node& n = c.graph.node("c");
  EXPECT_FALSE(n.op->preserves_zero());
  EXPECT_TRUE(n.op->reduces_over_width());
}

}  // namespace
}  // namespace espalier
