// Scores that look at what the layers behind a width make of its feature maps.
#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/score.h"
#include "scores/batches.h"
#include "scores/builtin.h"

namespace espalier {

namespace {

// A layer that reads a width: a convolution without groups, or a linear layer.
struct Consumer {
  const Node* node;
  ParamId weight;
};

std::vector<Consumer> consumers_of(const Graph& graph, Axis axis) {
  std::vector<Consumer> found;
  for (const Node& n : graph.nodes()) {
    if (n.parameters.empty() || (n.op->type() != "conv2d" && n.op->type() != "linear")) continue;
    const std::vector<bool> dimensions = reads(graph, n.parameters.front(), axis);
    const bool conv = n.op->type() == "conv2d";
    const Value options = n.op->options();
    if (conv && (options.at("grouped").as_bool() || options.at("depthwise").as_bool())) continue;
    if (std::ranges::find(dimensions, true) != dimensions.end()) found.push_back({&n, n.parameters.front()});
  }
  return found;
}

// What each position adds to one number that the layer computes: [positions of its input], for sample `b` of `x` at a
// place drawn by `bits`.
at::Tensor parts_of_output(const Graph& graph, const Consumer& c, const at::Tensor& x, int64_t b, const at::Tensor& w,
                           Random4 bits) {
  const auto draw = [](uint32_t word, int64_t n) {
    return static_cast<int64_t>(below(word, static_cast<uint32_t>(n)));
  };
  const at::Tensor filter = w.select(0, draw(bits.v[0], w.size(0)));
  if (c.node->op->type() == "linear") {
    at::Tensor row = x.select(0, b);
    if (row.dim() > 1) {
      row = row.flatten(0, -2);
      row = row.select(0, draw(bits.v[1], row.size(0)));
    }
    return row * filter;
  }
  const Value o = c.node->op->options();
  const int64_t stride = o.at("stride").as_int(), padding = o.at("padding").as_int(),
                dilation = o.at("dilation").as_int(), kernel = w.size(2);
  const std::vector<int64_t> y = graph.sizes(graph[c.node->outputs.front()].shape);
  const at::Tensor image = at::constant_pad_nd(x.select(0, b), {padding, padding, padding, padding});
  const int64_t top = draw(bits.v[1], y[1]) * stride, left = draw(bits.v[2], y[2]) * stride;
  const int64_t side = dilation * (kernel - 1) + 1;
  const at::Tensor patch = image.slice(1, top, top + side, dilation).slice(2, left, left + side, dilation);
  return (patch * filter).sum({1, 2});
}

struct SampleOptions {
  int64_t batches = 4;
  int64_t points = 10;
  static void declare(Declare<SampleOptions>& p) {
    p("batches", &SampleOptions::batches, at_least(1), at_most(1e6), unit("batches"),
      "Number of training batches whose feature maps are looked at.");
    p("points", &SampleOptions::points, at_least(1), at_most(1e6),
      "Number of outputs of each layer that are drawn from each sample.");
  }
};

// Draws outputs of the layers that read a width, and ranks its positions by what they add to them.
class ReconstructionScore : public Score {
 public:
  explicit ReconstructionScore(const SampleOptions& o) : o_(o) {}
  int64_t batches() const override { return o_.batches; }
  std::string why_not(const Graph& graph, Axis axis) const override {
    return consumers_of(graph, axis).empty() ? "no convolution without groups and no linear layer reads it" : "";
  }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<std::vector<Consumer>> consumers;
    std::vector<Edge> every;
    for (const Axis axis : axes) {
      consumers.push_back(consumers_of(in.graph, axis));
      for (const Consumer& c : consumers.back()) every.push_back(c.node->inputs.front());
    }
    // Of each width X^T X, where X holds a row for each drawn output: what the positions add to it.
    std::vector<at::Tensor> grams(axes.size());
    uint64_t batch_number = 0;
    for_batches(in, o_.batches, [&](const Batch& batch) {
      Features features;
      loss_with_features(in, batch, every, false, features);
      for (size_t i = 0; i < axes.size(); ++i) {
        for (const Consumer& c : consumers[i]) add(in, axes[i], c, features, batch_number, grams[i]);
      }
      ++batch_number;
    });
    std::vector<AxisScores> all;
    for (size_t i = 0; i < axes.size(); ++i) all.push_back(scores_of(axes[i], of_gram(grams[i])));
    return all;
  }

 protected:
  // From X^T X, [positions, positions], the scores, [positions].
  virtual at::Tensor of_gram(const at::Tensor& gram) const = 0;

 private:
  void add(const ScoreInput& in, Axis axis, const Consumer& c, const Features& features, uint64_t batch_number,
           at::Tensor& gram) const {
    const at::Tensor x = feature_at(features, c.node->inputs.front()).detach().to(at::kCPU, at::kDouble);
    const at::Tensor w = in.weights[c.weight].detach().to(at::kCPU, at::kDouble);
    const RandomKey key = in.key.with("reconstruction").with(c.node->name).with(batch_number);
    std::vector<at::Tensor> rows;
    for (int64_t b = 0; b < x.size(0); ++b) {
      for (int64_t p = 0; p < o_.points; ++p)
        rows.push_back(
            parts_of_output(in.graph, c, x, b, w, philox(key.value(), static_cast<uint64_t>(b * o_.points + p))));
    }
    const at::Tensor by_column = at::stack(rows, 1);  // [columns, drawn]
    const Shape& shape = in.graph[c.weight].shape;
    const at::Tensor grouped =
        rows_of(in.graph, by_column, {shape[1], Dim::of(by_column.size(1))}, axis, {true, false});
    const at::Tensor positions = grouped.reshape({in.graph[axis].size, -1, by_column.size(1)}).sum(1);
    const at::Tensor here = at::matmul(positions, positions.t());
    gram = gram.defined() ? gram + here : here;
  }
  SampleOptions o_;
};

// ThiNet (Luo et al. 2017, algorithm 1): positions go one after the other, each time the one whose removal leaves the
// drawn outputs nearest to what they were. The score of the position that goes as the k-th of n is k / n.
class ThinetScore final : public ReconstructionScore {
 public:
  using Options = SampleOptions;
  explicit ThinetScore(const Options& o) : ReconstructionScore(o) {}

 private:
  at::Tensor of_gram(const at::Tensor& gram) const override {
    const int64_t n = gram.size(0);
    const at::Tensor g = gram.contiguous();
    const auto* a = g.const_data_ptr<double>();
    std::vector<double> with_gone(static_cast<size_t>(n), 0);  // the sum of a row over those that are gone
    std::vector<bool> gone(static_cast<size_t>(n), false);
    at::Tensor scores = at::empty_like(g.select(0, 0));
    auto* s = scores.mutable_data_ptr<double>();
    for (int64_t k = 1; k <= n; ++k) {
      int64_t best = -1;
      double least = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double change = 2 * with_gone[static_cast<size_t>(i)] + a[i * n + i];
        if (!gone[static_cast<size_t>(i)] && (best < 0 || change < least)) best = i, least = change;
      }
      gone[static_cast<size_t>(best)] = true;
      s[best] = static_cast<double>(k) / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i) with_gone[static_cast<size_t>(i)] += a[best * n + i];
    }
    return scores;
  }
};

// Channel pruning (He et al. 2017, eq. (2)): the lasso over one coefficient for each position that rebuilds the drawn
// outputs. The score is the largest penalty, relative to the one at which all coefficients are zero, at which the
// position has a coefficient other than zero.
class ChannelPruningScore final : public ReconstructionScore {
 public:
  using Options = SampleOptions;
  explicit ChannelPruningScore(const Options& o) : ReconstructionScore(o) {}

 private:
  at::Tensor of_gram(const at::Tensor& gram) const override {
    const int64_t n = gram.size(0);
    const at::Tensor g = gram.contiguous();
    const auto* a = g.const_data_ptr<double>();
    const at::Tensor target = g.sum(1);  // X^T y, y = X 1
    const auto* c = target.const_data_ptr<double>();
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(c[i]));
    at::Tensor scores = at::zeros_like(target);
    auto* s = scores.mutable_data_ptr<double>();
    if (largest == 0) return scores;
    std::vector<double> beta(static_cast<size_t>(n), 0), product(static_cast<size_t>(n), 0);  // product: gram beta
    for (int step = 1; step <= steps; ++step) {
      const double penalty = std::pow(last, static_cast<double>(step) / steps);
      for (int sweep = 0; sweep < sweeps; ++sweep) {
        double moved = 0;
        for (int64_t i = 0; i < n; ++i) {
          const double own = a[i * n + i];
          if (own == 0) continue;
          const auto u = static_cast<size_t>(i);
          const double rest = c[i] - product[u] + own * beta[u];
          const double size = std::max(0.0, std::abs(rest) - penalty * largest) / own;
          const double now = rest < 0 ? -size : size;
          const double change = now - beta[u];
          if (change == 0) continue;
          beta[u] = now;
          moved = std::max(moved, std::abs(change));
          for (int64_t j = 0; j < n; ++j) product[static_cast<size_t>(j)] += a[i * n + j] * change;
        }
        if (moved < 1e-6) break;
      }
      for (int64_t i = 0; i < n; ++i) {
        if (s[i] == 0 && beta[static_cast<size_t>(i)] != 0) s[i] = penalty;
      }
    }
    // Of those that come in at the same step, or never: the larger coefficient.
    for (int64_t i = 0; i < n; ++i) s[i] += 1e-9 * std::min(1.0, std::abs(beta[static_cast<size_t>(i)]));
    return scores;
  }
  static constexpr int steps = 100, sweeps = 100;
  static constexpr double last = 1e-4;
};

}  // namespace

std::vector<Component> reconstruction_scores() {
  std::vector<Component> all;
  all.push_back(component<ThinetScore>("thinet", "greedy reconstruction of the next layers (Luo et al. 2017)"));
  all.push_back(
      component<ChannelPruningScore>("channel_pruning", "lasso reconstruction of the next layers (He et al. 2017)"));
  return all;
}

}  // namespace espalier
