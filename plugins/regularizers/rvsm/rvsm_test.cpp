#include <cmath>
#include <functional>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>

#include <espalier/foresight.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using Row = std::vector<double>;

// H and S as the thesis prints them below (2.6), number by number.
double hard(double w, double gamma) {
  return std::abs(w) <= std::sqrt(2 * gamma) ? 0 : w;
}
double soft(double w, double gamma) {
  return w <= -gamma ? w + gamma : w >= gamma ? w - gamma : 0;
}

// The minimum over all u of lambda |u| + beta / 2 |u - w|^2 of a vector, by hand: a multiple of w.
Row of_group(const Row& w, double lambda, double beta, bool l0) {
  double squares = 0;
  for (const double v : w) squares += v * v;
  const double norm = std::sqrt(squares);
  double factor = 0;
  if (l0) {
    factor = beta / 2 * squares > lambda ? 1 : 0;  // to pay lambda or the whole distance
  } else if (norm > 0) {
    factor = std::max(0.0, 1 - lambda / beta / norm);
  }
  Row u = w;
  for (double& v : u) v *= factor;
  return u;
}

struct Case {
  const char* penalty;
  bool groups;
};

std::string spec_of(const Case& c, double lambda, double beta) {
  return R"({"use": "rvsm", "penalty": ")" + std::string(c.penalty) + R"(", "groups": )" +
         (c.groups ? "true" : "false") + R"(, "weight": )" + std::to_string(lambda) + R"(, "beta": )" +
         std::to_string(beta) + R"(, "on": "fc1.weight"})";
}

Row numbers(const at::Tensor& t) {
  const at::Tensor c = t.contiguous();
  return {c.const_data_ptr<double>(), c.const_data_ptr<double>() + c.numel()};
}

// (2.6), literally: L = 1/2 sum a_i (w_i - b_i)^2 with plain gradient descent. u(t+1) takes w(t), not w(t+1).
TEST(Rvsm, EqualsTheTranscriptionOfItsEquation) {
  constexpr double lambda = 0.02, beta = 0.5, eta = 0.1;
  for (const Case c : {Case{"l0", false}, Case{"l1", false}, Case{"l0", true}, Case{"l1", true}}) {
    SCOPED_TRACE(std::string(c.penalty) + (c.groups ? " of groups" : ""));
    RegularizerBench b("rvsm", spec_of(c, lambda, beta));
    const c10::NoGradGuard no_grad;
    at::Tensor weight = b.weight("fc1.weight");
    const auto rows = static_cast<size_t>(weight.size(0)), columns = static_cast<size_t>(weight.size(1));
    const double spread = !c.groups ? 0.6 : c.penalty[1] == '0' ? 0.1 : 0.05;
    std::vector<Row> w(rows, Row(columns)), target = w;
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < columns; ++j) {
        w[i][j] = spread * std::sin(static_cast<double>(7 * i + 3 * j + 1));
        target[i][j] = spread * static_cast<double>(i + 1) / 5 * std::cos(static_cast<double>(5 * i + 2 * j));
        weight[static_cast<int64_t>(i)][static_cast<int64_t>(j)].fill_(w[i][j]);
      }
    }
    const auto proximal = [&](const Row& r) {
      if (c.groups) return of_group(r, lambda, beta, *c.penalty == 'l' && c.penalty[1] == '0');
      Row u = r;
      for (double& v : u) v = c.penalty[1] == '0' ? hard(v, lambda / beta) : soft(v, lambda / beta);
      return u;
    };
    std::vector<Row> u;
    for (const Row& r : w) u.push_back(proximal(r));
    std::vector<double> rates(b.graph.parameters().size(), eta);
    for (int t = 0; t < 60; ++t) {
      b.weights->zero_gradients();
      b.add();
      at::Tensor g = b.gradient("fc1.weight");
      for (size_t i = 0; i < rows; ++i) {
        for (size_t j = 0; j < columns; ++j) {
          const auto r = static_cast<int64_t>(i), k = static_cast<int64_t>(j);
          weight[r][k].sub_(eta * (g[r][k].item<double>() + weight[r][k].item<double>() - target[i][j]));
        }
      }
      b.regularizer->after_update(b.graph, *b.weights, LearningRates(rates));
      const std::vector<Row> w_before = w;
      for (size_t i = 0; i < rows; ++i) {
        for (size_t j = 0; j < columns; ++j)
          w[i][j] += -eta * (w_before[i][j] - target[i][j]) - eta * beta * (w_before[i][j] - u[i][j]);
        u[i] = proximal(w_before[i]);
      }
    }
    int64_t zeros = 0, others = 0;
    b.weights->zero_gradients();
    double value = 0;
    for (size_t i = 0; i < rows; ++i) {
      double squares = 0, sizes = 0;
      for (size_t j = 0; j < columns; ++j) {
        const auto r = static_cast<int64_t>(i), k = static_cast<int64_t>(j);
        EXPECT_NEAR(weight[r][k].item<double>(), w[i][j], 1e-12);
        value += beta / 2 * (u[i][j] - w[i][j]) * (u[i][j] - w[i][j]);
        squares += u[i][j] * u[i][j];
        sizes += c.penalty[1] == '0' ? (u[i][j] != 0) : std::abs(u[i][j]);
      }
      if (c.groups) sizes = c.penalty[1] == '0' ? (squares > 0) : std::sqrt(squares);
      value += lambda * sizes;
    }
    EXPECT_NEAR(b.add(), value, 1e-12) << "lambda P(u) + beta / 2 |u - w|^2";
    // At the end the zeros are exact, and there are some.
    b.regularizer->stage_end(b.graph, *b.weights);
    for (size_t i = 0; i < rows; ++i) {
      const Row last = proximal(w[i]);
      for (size_t j = 0; j < columns; ++j) {
        const double is = weight[static_cast<int64_t>(i)][static_cast<int64_t>(j)].item<double>();
        EXPECT_NEAR(is, last[j], 1e-12);
        EXPECT_EQ(is == 0, last[j] == 0);
        (is == 0 ? zeros : others) += 1;
      }
    }
    EXPECT_GT(zeros, 0);
    EXPECT_GT(others, 0);
  }
}

// The closed forms against a search over a grid.
TEST(Rvsm, ItsSparseCopyIsTheMinimum) {
  constexpr double lambda = 0.3, beta = 2;
  for (const char* penalty : {"l0", "l1"}) {
    RegularizerBench b("rvsm", R"({"use": "rvsm", "penalty": ")" + std::string(penalty) +
                                   R"(", "weight": 0.3, "beta": 2, "on": "bn.weight"})");
    const c10::NoGradGuard no_grad;
    const Row w{-1.2, 0.1, 0.5, 0.7};
    b.weight("bn.weight").copy_(at::tensor(w, at::kDouble));
    b.regularizer->stage_end(b.graph, *b.weights);
    const Row found = numbers(b.weight("bn.weight"));
    for (size_t i = 0; i < w.size(); ++i) {
      double best = 0, least = 1e9;
      for (int k = -2000; k <= 2000; ++k) {
        const double u = k / 1000.0;
        const double cost = lambda * (penalty[1] == '0' ? (k != 0) : std::abs(u)) + beta / 2 * (u - w[i]) * (u - w[i]);
        if (cost < least) least = cost, best = u;
      }
      EXPECT_NEAR(found[i], best, 1e-3) << penalty << " " << w[i];
    }
  }
}

TEST(Rvsm, WhatAnUpdateLeavesAloneKeepsItsCopy) {
  RegularizerBench b(
      "rvsm", R"({"use": "rvsm", "weight": 0.1, "beta": 1, "penalty": "l1", "on": ["fc1.weight", "bn.weight"]})");
  const c10::NoGradGuard no_grad;
  b.add();
  std::vector<double> rates(b.graph.parameters().size(), 0.1);
  rates[static_cast<size_t>(b.graph.parameter("bn.weight").id)] = 0;
  for (const char* name : {"fc1.weight", "bn.weight"}) b.weight(name).add_(1);
  b.regularizer->after_update(b.graph, *b.weights, LearningRates(rates));
  for (const char* name : {"fc1.weight", "bn.weight"}) b.weight(name).add_(1);
  b.add();
  b.regularizer->after_update(b.graph, *b.weights, LearningRates(rates));
  const auto copy = [&](const char* name) { return b.weights->state("rvsm.before", b.graph.parameter(name)); };
  EXPECT_TRUE(at::equal(copy("fc1.weight"), b.weight("fc1.weight")));
  EXPECT_EQ((copy("bn.weight") - 1).abs().max().item<double>(), 0) << "as at first";
}

// A stage may have two with parameters of their own, which begin at different times (as where one of two copies of the
// weights is regularized later): each takes its first sparse copy of the values that it finds.
TEST(Rvsm, TwoBeginEachByItself) {
  RegularizerBench b("rvsm", R"({"use": "rvsm", "weight": 0.1, "beta": 1, "on": "fc1.weight"})");
  const auto second = Registry::instance().create<Regularizer>(
      from_json(R"({"use": "rvsm", "weight": 0.1, "beta": 1, "on": "bn.weight"})"));
  second->attach(b.graph, *b.weights);
  const c10::NoGradGuard no_grad;
  b.add();
  b.weight("bn.weight").fill_(3);
  b.weights->zero_gradients();
  at::Tensor value = at::zeros({}, at::kDouble);
  second->add(b.graph, *b.weights, value);
  // 3 is above the threshold, so that the copy is 3, too, and nothing is drawn to it; the penalty counts four of them.
  EXPECT_EQ(b.gradient("bn.weight").abs().max().item<double>(), 0);
  EXPECT_DOUBLE_EQ(value.item<double>(), 0.4);
}

// A gate is a group by itself: rows of one dimension are elements.
TEST(Rvsm, GroupsOfOneDimensionAreElements) {
  for (const char* penalty : {"l0", "l1"}) {
    RegularizerBench b("rvsm",
                       R"({"use": "rvsm", "groups": true, "weight": 0.5, "beta": 1, "on": "bn.weight", "penalty": ")" +
                           std::string(penalty) + "\"}");
    const c10::NoGradGuard no_grad;
    b.weight("bn.weight").copy_(at::tensor(Row{-2, 0.2, 0.4, 3}, at::kDouble));
    b.regularizer->stage_end(b.graph, *b.weights);
    const bool l0 = penalty[1] == '0';
    EXPECT_EQ(numbers(b.weight("bn.weight")), l0 ? (Row{-2, 0, 0, 3}) : (Row{-1.5, 0, 0, 2.5}));
  }
}

TEST(Rvsm, GradientEqualsFiniteDifferences) {
  RegularizerBench b("rvsm", R"({"use": "rvsm", "weight": 0.3, "beta": 0.7})");
  b.add();
  b.weights->zero_gradients();
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights, 1e-6), 1e-6);
}

TEST(Rvsm, SaysWhatIsWithoutEffect) {
  RegularizerBench b("rvsm", R"({"use": "rvsm", "weight": 0, "groups": true, "on": "biases"})");
  const std::vector<std::string> lines = dynamic_cast<const Foresight&>(*b.regularizer).idle(b.graph, 1);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[0], HasSubstr("nothing becomes zero"));
  EXPECT_THAT(lines[1], HasSubstr("names no filters or units"));
}

}  // namespace
}  // namespace espalier
