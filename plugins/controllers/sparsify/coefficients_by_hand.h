#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/execute.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

// The coefficients of paper 004 written down once more, in plain loops over doubles, for tests.
namespace espalier {

using Numbers = std::vector<double>;

inline double sigmoid_of(double x) {
  return 1 / (1 + std::exp(-x));
}
inline double sum_of(const Numbers& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum;
}
inline at::Tensor tensor_of(const Numbers& v) {
  return at::tensor(v, at::kDouble);
}
inline Numbers numbers_of(const at::Tensor& t) {
  const at::Tensor c = t.detach().to(at::kDouble).contiguous();
  return {c.const_data_ptr<double>(), c.const_data_ptr<double>() + c.numel()};
}

// (2)-(4) of the paper, with what else an option makes of them.
struct ByHand {
  bool exponential = false, null = false;
  Numbers gamma{}, above{}, values{};  // above: gamma less the threshold
  double threshold = 0, sum = 0;       // what the positive parts are divided by

  ByHand& of(const Numbers& alpha, double beta) {
    gamma.clear();
    for (const double a : alpha) gamma.push_back(exponential ? std::exp(a) : sigmoid_of(a));
    threshold = sigmoid_of(beta) * sum_of(gamma);
    above.clear();
    values.clear();
    sum = 0;
    for (const double g : gamma) {
      above.push_back(g - threshold);
      values.push_back(std::max(above.back(), 0.0));
      sum += values.back() + (null ? std::min(g, threshold) : 0);
    }
    for (double& v : values) v = sum > 0 ? v / sum : 0;
    return *this;
  }
};

// The beta with which n components and what is below the threshold have equal chances (facts 5).
inline double beta_of(int64_t n) {
  const auto c = static_cast<double>(n);
  return -std::log(c * c + c - 1);
}

// A network whose output "a" are the coefficients of an operation of this plugin, and whose logits are multiplied by
// them.
inline Graph coefficients_of(const std::string& options, int64_t n) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  GraphBuilder b({3});
  const Edge a = b.node("competition", "c", {}, from_json(options), {n});
  Graph g = b.output(b.scale(b.linear("fc", b.input(), {.features = n}), a));
  g.add_output("a", a);
  return g;
}

// Values that a parameter has now.
inline void assign(const Graph& g, Weights& w, const std::string& parameter, const Numbers& values) {
  const c10::NoGradGuard no_grad;
  at::Tensor t = w[g.parameter(parameter)].detach();
  t.copy_(tensor_of(values).view(t.sizes()));
}

// The coefficients, as one row; autograd connects them.
inline at::Tensor coefficients(const Graph& g, const Weights& w, const Pass& pass = {}) {
  return run(g, w, {}, {"a"}, pass)[0][0];
}

// Compares the gradients of all trainable parameters but those of other nodes with central differences of
// `loss`. Its terms are of size one: with a step of 1e-6 both the third derivatives and the rounding of float64 leave
// less than 1e-8.
template <class Loss>
void expect_gradients(const Graph& g, Weights& w, const std::string& node, const Loss& loss) {
  constexpr double step = 1e-6;
  w.zero_gradients();
  loss().backward();
  const c10::NoGradGuard no_grad;
  for (const ParamId p : g.node(node).parameters) {
    if (g[p].role == Role::buffer) continue;
    at::Tensor flat = w[p].detach().view(-1);
    const at::Tensor gradient = w.gradient(p).reshape(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double start = flat[i].item<double>();
      flat[i].fill_(start + step);
      double difference = loss().template item<double>();
      flat[i].fill_(start - step);
      difference -= loss().template item<double>();
      flat[i].fill_(start);
      EXPECT_NEAR(gradient[i].item<double>(), difference / (2 * step), 1e-8) << g[p].name << " " << i;
    }
  }
}

}  // namespace espalier
