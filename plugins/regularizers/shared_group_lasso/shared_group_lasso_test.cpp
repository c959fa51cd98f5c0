#include <algorithm>

#include <c10/core/GradMode.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

// A stream that two layers make and two read, a width of groups, and a concatenation.
Graph network() {
  GraphBuilder g({2, 6, 6});
  Edge x = g.relu(g.batch_norm("bn0", g.conv("stem", g.input(), {.filters = 4, .padding = 1, .bias = false})));
  const Edge y = g.relu(g.conv("conv1", x, {.filters = 3, .padding = 1}));
  x = g.add(g.conv("conv2", y, {.filters = 4, .padding = 1}), x);
  x = g.concat({x, y});
  return g.output(g.linear("fc", g.flatten(g.conv("last", x, {.filters = 2, .kernel = 6})), {.features = 3}));
}

struct Bench {
  Graph graph = network();
  Weights weights{graph, at::kDouble, at::kCPU};
  std::unique_ptr<Regularizer> regularizer;

  explicit Bench(const std::string& options) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libshared_group_lasso.so");
    weights.initialize(graph, RandomKey(4));
    const c10::NoGradGuard no_grad;
    (*this)["bn0.weight"].mul_(0.7);
    (*this)["bn0.bias"].fill_(0.3);
    regularizer =
        Registry::instance().create<Regularizer>(from_json(R"({"use": "shared_group_lasso")" + options + "}"));
    regularizer->attach(graph, weights);
  }
  at::Tensor operator[](const char* name) { return weights[graph.parameter(name)].detach(); }
  double add() {
    at::Tensor value = at::zeros({}, at::kDouble);
    regularizer->add(graph, weights, value);
    return value.item<double>();
  }
  double squares(const at::Tensor& t) { return t.square().sum().item<double>(); }
  std::vector<double> norms_of_stem() {
    std::vector<double> norms;
    for (int64_t k = 0; k < 4; ++k) {
      norms.push_back(std::sqrt(squares((*this)["stem.weight"][k]) + squares((*this)["bn0.weight"][k]) +
                                squares((*this)["bn0.bias"][k]) + squares((*this)["conv1.weight"].select(1, k)) +
                                squares((*this)["conv2.weight"][k]) + squares((*this)["conv2.bias"][k]) +
                                squares((*this)["last.weight"].select(1, k))));
    }
    return norms;
  }
};

TEST(SharedGroupLasso, IsTheSumOfTheNormsOfAllThatGoesWithAPosition) {
  Bench b(R"(, "weight": 0.5, "on": "stem")");
  double expected = 0;
  for (const double n : b.norms_of_stem()) expected += 0.5 * n;
  EXPECT_NEAR(b.add(), expected, 1e-12);
  // Of the width within: its columns stand behind those of the stream in the concatenation.
  Bench inner(R"(, "weight": 0.5, "on": "conv1")");
  expected = 0;
  for (int64_t k = 0; k < 3; ++k) {
    expected += 0.5 * std::sqrt(inner.squares(inner["conv1.weight"][k]) + inner.squares(inner["conv1.bias"][k]) +
                                inner.squares(inner["conv2.weight"].select(1, k)) +
                                inner.squares(inner["last.weight"].select(1, 4 + k)));
  }
  EXPECT_NEAR(inner.add(), expected, 1e-12);
}

TEST(SharedGroupLasso, GradientEqualsFiniteDifferencesAndIsZeroAtZero) {
  Bench b(R"(, "weight": 0.3)");
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, b.weights), 1e-6);
  const c10::NoGradGuard no_grad;
  for (const char* name : {"conv1.weight", "conv1.bias"}) b[name][1].zero_();
  b["conv2.weight"].select(1, 1).zero_();
  b["last.weight"].select(1, 5).zero_();
  b.weights.zero_gradients();
  b.add();
  EXPECT_TRUE(std::isfinite(b.weights.gradient(b.graph.parameter("last.weight")).sum().item<double>()));
  EXPECT_EQ(b.weights.gradient(b.graph.parameter("conv1.bias"))[1].item<double>(), 0);
}

TEST(SharedGroupLasso, OfTheGrowingFormPenalisesTheSmallestMost) {
  Bench b(R"(, "weight": 0.5, "on": "stem", "form": "growing", "alpha": 3)");
  const std::vector<double> norms = b.norms_of_stem();
  const auto [least, most] = std::ranges::minmax(norms);
  const double value = b.add();
  double expected = 0;
  for (size_t k = 0; k < 4; ++k) {
    const double gamma = std::exp2(3 * (most - norms[k]) / (most - least));
    expected += 0.25 * gamma * norms[k] * norms[k];
    const at::Tensor gradient = b.weights.gradient(b.graph.parameter("conv2.bias"));
    EXPECT_NEAR(gradient[static_cast<int64_t>(k)].item<double>(),
                0.5 * gamma * b["conv2.bias"][static_cast<int64_t>(k)].item<double>(), 1e-12);
  }
  EXPECT_NEAR(value, expected, 1e-12);
}

TEST(SharedGroupLasso, FollowsEdits) {
  Bench b(R"(, "weight": 1, "on": "conv1")");
  apply(b.graph, {&b.weights}, shrink(b.graph, b.graph.axis("conv1"), {0, 2}));
  b.regularizer->attach(b.graph, b.weights);
  double expected = 0;
  for (const int64_t i : {0, 1}) {
    expected += std::sqrt(b.squares(b["conv1.weight"][i]) + b.squares(b["conv1.bias"][i]) +
                          b.squares(b["conv2.weight"].select(1, i)) + b.squares(b["last.weight"].select(1, 4 + i)));
  }
  EXPECT_NEAR(b.add(), expected, 1e-12);
  apply(b.graph, {&b.weights}, shrink(b.graph, b.graph.axis("conv1"), {1}));
  b.regularizer->attach(b.graph, b.weights);
  EXPECT_EQ(b.add(), 0) << "the last filter cannot go";
}

}  // namespace
}  // namespace espalier
