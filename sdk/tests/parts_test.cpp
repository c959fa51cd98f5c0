// A batch that several processes compute together: here threads, whose sums meet in memory.
#include "espalier/parts.h"

#include <array>
#include <functional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"
#include "two_parts.h"

namespace espalier {
namespace {

constexpr int64_t samples = 11, first_part = 4;

// Batch norms of images, with a gate of the channels, a sum and ReLU behind them, and of features; and dropout.
Graph network() {
  GraphBuilder b({2, 5, 4});
  const Edge other = b.conv("conv2", b.input(), {.filters = 13, .kernel = 1});
  Edge x = b.conv("conv1", b.input(), {.filters = 13, .kernel = 3, .padding = 1});
  x = b.relu(b.add({b.batch_norm("bn1", x, {.momentum = 0.3}), other}));
  x = b.batch_norm("bn2", b.conv("conv3", x, {.filters = 5, .kernel = 1}), {.affine = false});
  x = b.dropout(b.linear("fc1", b.flatten(x), {.features = 9}), 0.4);
  x = b.relu(b.batch_norm("bn3", x, {}));
  Graph g = b.output(b.linear("fc2", x, {.features = 4}));
  apply(g, {}, {InsertGate{.gate = "s", .edge = "bn2", .axis = "", .initial = 0.7, .role = "weight"}});
  return g;
}

// What a training step leaves of one part: gradients and running statistics.
std::vector<at::Tensor> step(const Graph& g, at::ScalarType dtype, bool fuse, int64_t begin, int64_t end,
                             const BatchPart& part) {
  Weights w(g, dtype, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, samples, 5).slice(0, begin, end).to(dtype);
  const at::Tensor y = testkit::target_of(4, samples, 5).slice(0, begin, end);
  const at::Tensor logits = run(g, w, {{"input", x.contiguous(at::MemoryFormat::ChannelsLast)}}, {"logits"},
                                {.training = true, .key = RandomKey(1), .fuse = fuse, .part = part})[0];
  (at::cross_entropy_loss(logits, y) * (static_cast<double>(end - begin) / samples)).backward();
  std::vector<at::Tensor> all;
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    all.push_back((g[id].role == Role::buffer ? w[id] : w.gradient(id)).detach().to(at::kDouble).clone());
  }
  return all;
}

// The largest difference from the whole batch in float64, relative to the largest gradient: those before a batch norm
// are partly zero by mathematics, and rounding is all that there is of them.
double error(const Graph& g, const std::vector<at::Tensor>& exact, const std::vector<at::Tensor>& a) {
  double largest = 0, worst = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    if (g.parameters()[i].role != Role::buffer) largest = std::max(largest, exact[i].abs().max().item<double>());
  }
  for (size_t i = 0; i < exact.size(); ++i) {
    const double scale = g.parameters()[i].role == Role::buffer ? 1 : largest;
    worst = std::max(worst, (a[i] - exact[i]).abs().max().item<double>() / scale);
  }
  return worst;
}

TEST(Parts, ABatchInTwoPartsGivesTheGradientsAndStatisticsOfTheWhole) {
  const Graph g = network();
  const auto exact = step(g, at::kDouble, false, 0, samples, {});
  for (const auto& [dtype, fuse] : {std::pair(at::kDouble, false), {at::kDouble, true}, {at::kFloat, true}}) {
    TwoParts both;
    std::array<std::vector<at::Tensor>, 2> parts;
    both.run([&](size_t i, const SumOverParts& sum) {
      const int64_t begin = i == 0 ? 0 : first_part, end = i == 0 ? first_part : samples;
      parts[i] = step(g, dtype, fuse, begin, end, {.first = begin, .samples = end - begin, .sum = &sum});
    });
    for (size_t p = 0; p < exact.size(); ++p) {
      if (g.parameters()[p].role == Role::buffer) {
        EXPECT_TRUE(parts[0][p].equal(parts[1][p])) << g.parameters()[p].name << " is the same in both";
      } else {
        parts[0][p].add_(parts[1][p]);
      }
    }
    // A hundred times the rounding of the type: sums of some hundred numbers in another order.
    const double rounding = dtype == at::kDouble ? 1e-13 : 1e-5;
    EXPECT_LE(error(g, exact, parts[0]), rounding) << dtype << (fuse ? ", fused" : "");
  }
}

TEST(Parts, WithoutASumEachPartIsNormalisedByItself) {
  const Graph g = network();
  const auto own = step(g, at::kDouble, true, 0, first_part, {.first = 0, .samples = first_part, .sum = nullptr});
  const auto alone = step(g, at::kDouble, true, 0, first_part, {});
  for (size_t p = 0; p < own.size(); ++p) EXPECT_TRUE(own[p].equal(alone[p]));
}

// With s = sum over both threads of x^2 and each loss s^2 / 2: the gradient of both losses is 4 s x, and that of the
// sum of this over both is 4 s + 8 x sum(x).
TEST(Parts, ASumHasASecondDerivative) {
  const std::array<std::vector<double>, 2> values{{{0.5, -1.25}, {2, 0.75}}};
  double s = 0, plain = 0;
  for (const auto& part : values) {
    for (const double v : part) s += v * v, plain += v;
  }
  TwoParts both;
  both.run([&](size_t i, const SumOverParts& sum) {
    const at::Tensor x = at::empty({2}, at::kDouble);
    for (int64_t j = 0; j < 2; ++j) x[j].fill_(values[i][static_cast<size_t>(j)]);
    x.requires_grad_();
    const at::Tensor loss = sum_over_parts((x * x).sum(), sum).square() / 2;
    const at::Tensor first = torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
    const at::Tensor second = torch::autograd::grad({first.sum()}, {x})[0];
    for (int64_t j = 0; j < 2; ++j) {
      const double v = values[i][static_cast<size_t>(j)];
      EXPECT_NEAR(first[j].item<double>(), 4 * s * v, 1e-12);
      EXPECT_NEAR(second[j].item<double>(), 4 * s + 8 * v * plain, 1e-12);
    }
  });
}

TEST(Parts, AMaskIsThatPartOfTheWholeOne) {
  at::Tensor whole = at::empty({11, 3}, at::kFloat);
  fill_dropout_mask(whole, 0.4, RandomKey(9));
  for (const int64_t begin : {0, 1, 2, 5, 10}) {
    at::Tensor part = at::empty({11 - begin, 3}, at::kFloat);
    fill_dropout_mask(part, 0.4, RandomKey(9), 3 * begin);
    EXPECT_TRUE(part.equal(whole.slice(0, begin))) << begin;
  }
}

}  // namespace
}  // namespace espalier
