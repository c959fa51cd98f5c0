// Proximal steps of whole components and of coefficients that compete, against the paper's formulas.
#include <gmock/gmock.h>

#include <espalier/regularizer.h>

#include "sparsify_run.h"

namespace espalier {
namespace {

constexpr double rounding = 1e-13;  // of a norm over a few hundred numbers

std::unique_ptr<Regularizer> regularizer(const std::string& spec) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  return Registry::instance().create<Regularizer>(from_json(spec));
}

struct Values {
  Graph graph;
  Weights weights;
  explicit Values(Graph g) : graph(std::move(g)), weights(graph, at::kDouble, at::kCPU) {
    weights.initialize(graph, RandomKey(1));
    stir(graph, weights, 4);
  }
  at::Tensor operator[](const std::string& name) const { return weights[graph.parameter(name)].detach(); }
  std::map<std::string, at::Tensor> copies() const {
    std::map<std::string, at::Tensor> all;
    for (const Parameter& p : graph.parameters()) all[p.name] = (*this)[p.name].clone();
    return all;
  }
  // Updates with this rate for all, but for the parameters that are named.
  void update(Regularizer& r, double rate, const std::map<std::string, double>& others = {}) {
    std::vector<double> rates(graph.parameters().size(), rate);
    for (const auto& [name, other] : others) rates[static_cast<size_t>(graph.parameter(name).id)] = other;
    const c10::NoGradGuard no_grad;
    r.after_update(graph, weights, LearningRates(rates));
  }
  double value(Regularizer& r) {
    at::Tensor v = at::zeros({}, at::kDouble);
    r.add(graph, weights, v);
    return v.item<double>();
  }
};

// A part of a parameter: positions [from, to) along a dimension, or all of it.
struct Part {
  std::string name;
  int64_t dimension = 0, from = 0, to = 0;
  at::Tensor of(const at::Tensor& t) const { return to == 0 ? t : t.slice(dimension, from, to); }
};

// w becomes (||w|| - rate weight)_+ / ||w|| times w, for each of these components, and nothing else changes.
void expect_proximal_step(Values& v, const std::string& options, const std::vector<std::vector<Part>>& components,
                          double rate, double weight, bool by_size) {
  SCOPED_TRACE(options);
  const auto r =
      regularizer(R"({"use": "component_lasso", "weight": )" + std::to_string(weight) + ", " + options + "}");
  r->attach(v.graph, v.weights);
  auto expected = v.copies();
  double penalty = 0;
  int zeros = 0, others = 0;
  for (const std::vector<Part>& parts : components) {
    double square = 0, count = 0;
    for (const Part& p : parts) {
      square += p.of(expected[p.name]).square().sum().item<double>();
      count += static_cast<double>(p.of(expected[p.name]).numel());
    }
    const double factor = weight * (by_size ? std::sqrt(count) : 1), norm = std::sqrt(square);
    penalty += factor * norm;
    const double scale = std::max(norm - rate * factor, 0.0) / norm;
    ++(scale == 0 ? zeros : others);
    for (const Part& p : parts) p.of(expected[p.name]).mul_(scale);
  }
  EXPECT_GT(others, 0) << "the case is one where some stay";
  EXPECT_NEAR(v.value(*r), penalty, rounding * penalty);
  v.update(*r, rate);
  for (const auto& [name, t] : expected) {
    const double worst = (v[name] - t).abs().max().item<double>();
    EXPECT_LE(worst, rounding) << name;
    EXPECT_TRUE(v[name].eq(0).equal(t.eq(0))) << name << ": zeros are exact";
  }
}

std::vector<Part> block(const std::string& name) {
  return {{name + ".conv1.weight"}, {name + ".bn1.weight"}, {name + ".bn1.bias"},
          {name + ".conv2.weight"}, {name + ".bn2.weight"}, {name + ".bn2.bias"}};
}

TEST(ComponentLasso, ShrinksResidualBranchesByTheirNorm) {
  Values v(resnet20(R"(, "shortcut": "B")"));
  std::vector<std::vector<Part>> components;
  for (const char* stage : {"1", "2", "3"}) {
    for (const char* b : {"0", "1", "2"}) components.push_back(block("layer" + std::string(stage) + "." + b));
  }
  expect_proximal_step(v, R"("groups": "blocks")", components, 0.1, 0.5, false);
  expect_proximal_step(v, R"("groups": "blocks", "by_size": true)", components, 0.1, 0.05, true);
  // Without the first blocks of the second and third stage, and of stages that are named.
  components.erase(components.begin() + 6);
  components.erase(components.begin() + 3);
  expect_proximal_step(v, R"("first_block": false)", components, 0.1, 0.5, false);
  expect_proximal_step(v, R"("on": ["layer2"])", {block("layer2.0"), block("layer2.1"), block("layer2.2")}, 0.1, 0.5,
                       false);
}

TEST(ComponentLasso, ShrinksBranchesWithWhatMakesAndReadsThem) {
  Values v(resnext29(R"("cardinality": 3, "base_width": 2)"));
  const auto branch = [](const std::string& name, int64_t i, int64_t width) {
    const int64_t from = i * width, to = from + width;
    return std::vector<Part>{{name + ".conv1.weight", 0, from, to}, {name + ".bn1.weight", 0, from, to},
                             {name + ".bn1.bias", 0, from, to},     {name + ".conv2.weight", 0, from, to},
                             {name + ".bn2.weight", 0, from, to},   {name + ".bn2.bias", 0, from, to},
                             {name + ".conv3.weight", 1, from, to}};
  };
  expect_proximal_step(v, R"("groups": "branches", "on": ["layer2.1.conv2", "layer1.0.conv2"])",
                       {branch("layer1.0", 0, 2), branch("layer1.0", 1, 2), branch("layer1.0", 2, 2),
                        branch("layer2.1", 0, 4), branch("layer2.1", 1, 4), branch("layer2.1", 2, 4)},
                       0.1, 3, false);
}

TEST(ComponentLasso, ShrinksConnectionsByTheirColumns) {
  Values v(densenet40(2));
  std::vector<std::vector<Part>> components;
  for (const auto& [from, to] : std::vector<std::pair<int64_t, int64_t>>{{0, 16}, {16, 18}, {18, 20}}) {
    components.push_back({{"dense1.2.norm1.weight", 0, from, to},
                          {"dense1.2.norm1.bias", 0, from, to},
                          {"dense1.2.conv1.weight", 1, from, to}});
  }
  expect_proximal_step(v, R"("groups": "connections", "on": ["dense1.2"])", components, 0.1, 2, false);
}

TEST(ComponentLasso, MakesZerosAndKeepsThemWithoutNaN) {
  Values v(resnet20());
  const auto r = regularizer(R"({"use": "component_lasso", "weight": 1000, "on": ["layer2"]})");
  r->attach(v.graph, v.weights);
  const auto before = v.copies();
  // Where nothing was updated, nothing shrinks.
  v.update(*r, 0);
  EXPECT_TRUE(v["layer2.1.conv1.weight"].equal(before.at("layer2.1.conv1.weight")));
  for (int again = 0; again < 2; ++again) {
    v.update(*r, 0.1);
    EXPECT_EQ(v["layer2.1.conv1.weight"].abs().max().item<double>(), 0);
    EXPECT_EQ(v["layer2.0.bn2.bias"].abs().max().item<double>(), 0);
    EXPECT_TRUE(v["layer1.1.conv1.weight"].equal(before.at("layer1.1.conv1.weight")));
  }
  EXPECT_EQ(v.value(*r), 0);
  const auto none = regularizer(R"({"use": "component_lasso", "weight": 0, "on": ["layer2"]})");
  none->attach(v.graph, v.weights);
  v.update(*none, 0.1);
  EXPECT_EQ(v["layer2.1.conv1.weight"].abs().max().item<double>(), 0) << "and no quotient of zeros";
}

// Zeros that the proximal step makes leave the network like those of coefficients.
TEST(ComponentLasso, WhatItMakesZeroLeaves) {
  for (const bool at_end : {false, true}) {
    Started s(resnet20(), R"("coefficients": "none", "every": 2, "patience": 6)");
    const auto zero = [&](const std::string& name) {
      for (const Part& p : block(name)) s.value(p.name).zero_();
    };
    const c10::NoGradGuard no_grad;
    zero("layer1.1");
    zero("layer2.0");
    const at::Tensor before = s.logits();
    if (at_end) {
      s.controller->stage_end(s.run);
    } else {
      for (int step = 0; step < 5; ++step) s.step_end();
      EXPECT_EQ(s.run.edits(), 0) << "six steps have to pass";
      s.step_end();
    }
    EXPECT_EQ(s.run.edits(), 2) << "one for each";
    EXPECT_FALSE(s.has("layer1.1.conv1") || s.has("layer2.0.conv1"));
    EXPECT_LE(difference(s.logits(), before), 1e-12);
    if (at_end) continue;
    // Later ones wait as long.
    zero("layer1.2");
    for (int step = 0; step < 5; ++step) s.step_end();
    EXPECT_EQ(s.run.edits(), 2);
    s.step_end();
    EXPECT_EQ(s.run.edits(), 3);
    EXPECT_FALSE(s.has("layer1.2.conv1"));
  }
  for (const auto& [network, options, names] :
       std::vector<std::tuple<Graph, std::string, std::vector<Part>>>{{resnext29(),
                                                                       R"("groups": "branches")",
                                                                       {{"layer1.0.conv1.weight", 0, 2, 4},
                                                                        {"layer1.0.bn1.weight", 0, 2, 4},
                                                                        {"layer1.0.bn1.bias", 0, 2, 4},
                                                                        {"layer1.0.conv2.weight", 0, 2, 4},
                                                                        {"layer1.0.bn2.weight", 0, 2, 4},
                                                                        {"layer1.0.bn2.bias", 0, 2, 4},
                                                                        {"layer1.0.conv3.weight", 1, 2, 4}}},
                                                                      {densenet40(),
                                                                       R"("groups": "connections")",
                                                                       {{"dense1.2.norm1.weight", 0, 16, 19},
                                                                        {"dense1.2.norm1.bias", 0, 16, 19},
                                                                        {"dense1.2.conv1.weight", 1, 16, 19}}}}) {
    Started s(network, options + R"(, "coefficients": "none", "every": 1, "patience": 1)");
    const c10::NoGradGuard no_grad;
    for (const Part& p : names) p.of(s.value(p.name)).zero_();
    const int64_t count = s.graph().parameter_count();
    int64_t gone = 0;
    for (const Part& p : names) gone += p.of(s.value(p.name)).numel();
    const at::Tensor before = s.logits();
    s.step_end();
    EXPECT_EQ(count - s.graph().parameter_count(), gone) << options;
    EXPECT_LE(difference(s.logits(), before), 1e-12) << options;
  }
}

TEST(ExclusiveLasso, ThresholdsByTheSumOfTheGroup) {
  Values v(Started::begun(resnet20(), *sparsify(R"("coefficients": "free")")));
  const Numbers start{0.5, -0.04, -0.3};
  for (const char* stage : {"1", "2", "3"})
    assign(v.graph, v.weights, "layer" + std::string(stage) + ".competition.alpha", start);
  const auto r = regularizer(R"({"use": "exclusive_lasso", "weight": {"layer1.*": 0.5, "layer2.*": 2}})");
  r->attach(v.graph, v.weights);
  EXPECT_NEAR(v.value(*r), 0.5 * (0.5 + 2) * 0.84 * 0.84, rounding);
  const auto before = v.copies();
  v.update(*r, 0.1);
  for (const auto& [stage, weight] : std::vector<std::pair<std::string, double>>{{"layer1", 0.5}, {"layer2", 2}}) {
    const Numbers a = numbers_of(v[stage + ".competition.alpha"]);
    for (size_t i = 0; i < 3; ++i) {
      const double size = std::max(std::abs(start[i]) - 0.1 * weight * 0.84, 0.0);
      EXPECT_NEAR(a[i], start[i] < 0 ? -size : size, rounding) << stage << i;
    }
    EXPECT_EQ(a[1] == 0, std::abs(start[1]) <= 0.1 * weight * 0.84);
  }
  for (const auto& [name, t] : before) {
    const bool acts = name.starts_with("layer1.competition") || name.starts_with("layer2.competition");
    EXPECT_TRUE(acts || v[name].equal(t)) << name;
  }
  // A parameter that no update reached stays.
  const auto again = v.copies();
  v.update(*r, 0.1, {{"layer1.competition.alpha", 0}});
  EXPECT_TRUE(v["layer1.competition.alpha"].equal(again.at("layer1.competition.alpha")));
  EXPECT_FALSE(v["layer2.competition.alpha"].equal(again.at("layer2.competition.alpha")));
}

TEST(ExclusiveLasso, OfAnAdjacencyActsOnRowsAndThenOnColumns) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  GraphBuilder b({.channels = 2, .nodes = 3});
  const Edge a = b.node("adjacency_competition", "c", {}, from_json(R"({"size": 3, "form": "free"})"));
  Values v(b.output(b.graph_conv("conv", b.input(), a, 3)));
  const Numbers start{0.5, -0.2, 0.1, 0.02, 0.4, -0.3, -0.6, 0.05, 0.2};
  assign(v.graph, v.weights, "c.alpha", start);
  const auto r = regularizer(R"({"use": "exclusive_lasso", "weight": 1.5})");
  r->attach(v.graph, v.weights);
  double penalty = 0;
  for (size_t i = 0; i < 3; ++i) {
    double row = 0, column = 0;
    for (size_t j = 0; j < 3; ++j) {
      row += std::abs(start[3 * i + j]);
      column += std::abs(start[3 * j + i]);
    }
    penalty += 0.5 * 1.5 * (row * row + column * column);
  }
  EXPECT_NEAR(v.value(*r), penalty, rounding);
  v.update(*r, 0.1);
  Numbers expected = start;
  for (const bool rows : {true, false}) {
    for (size_t i = 0; i < 3; ++i) {
      double sum = 0;
      const auto at = [&](size_t j) -> double& { return rows ? expected[3 * i + j] : expected[3 * j + i]; };
      for (size_t j = 0; j < 3; ++j) sum += std::abs(at(j));
      for (size_t j = 0; j < 3; ++j) {
        const double size = std::max(std::abs(at(j)) - 0.1 * 1.5 * sum, 0.0);
        at(j) = at(j) < 0 ? -size : size;
      }
    }
  }
  const Numbers now = numbers_of(v["c.alpha"]);
  for (size_t k = 0; k < 9; ++k) {
    EXPECT_NEAR(now[k], expected[k], rounding) << k;
    EXPECT_EQ(now[k] == 0, expected[k] == 0) << k;
  }
}

// Coefficients that it makes zero take their components out of the network.
TEST(ExclusiveLasso, WhatItMakesZeroLeaves) {
  Started s(resnet20(), R"("coefficients": "free", "every": 1, "patience": 0)");
  s.set("layer1.competition.alpha", {0.5, -0.04, -0.3});
  const auto r = regularizer(R"({"use": "exclusive_lasso", "weight": {"layer1.*": 1}})");
  r->attach(s.graph(), s.run.weights());
  {
    const c10::NoGradGuard no_grad;
    r->after_update(s.graph(), s.run.weights(), LearningRates(std::vector<double>(s.graph().parameters().size(), 0.1)));
  }
  const at::Tensor before = s.logits();
  s.step_end();
  EXPECT_FALSE(s.has("layer1.1.conv1"));
  EXPECT_TRUE(s.has("layer1.2.conv1"));
  EXPECT_LE(difference(s.logits(), before), 1e-12);
}

}  // namespace
}  // namespace espalier
