// Scores that look at the values of the network alone.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "espalier/rewrite.h"
#include "espalier/score.h"
#include "scores/builtin.h"
#include "scores/sums_kernels.h"

namespace espalier {

namespace {

// What a position has of one parameter: sums of absolute values (power 1) or of squares (power 2), float64 [positions].
at::Tensor sums_of(const ScoreInput& in, ParamId p, Axis axis, const std::vector<bool>& dimensions, int power) {
  const at::Tensor& w = in.weights[p];
  const Parameter& parameter = in.graph[p];
  const bool rows = std::ranges::count(dimensions, true) == 1 && dimensions.front();
  if (!rows || !w.is_cpu()) {
    const at::Tensor r = rows_of(in.graph, w, parameter.shape, axis, dimensions);
    return power == 1 ? r.abs().sum(1) : r.square().sum(1);
  }
  // Rows are contiguous in the arena, also those of kernels (channels_last).
  const Slot& slot = in.weights.slot(p);
  const at::Tensor& flat = in.weights.bank(in.weights.role(p)).values.flat();
  const int64_t count = slot.sizes.front();
  at::Tensor sums = at::empty({count}, at::kDouble);
  if (in.weights.dtype() == at::kDouble) {
    row_sums(flat.const_data_ptr<double>() + slot.offset, count, slot.numel / count, power,
             sums.mutable_data_ptr<double>());
  } else {
    row_sums(flat.const_data_ptr<float>() + slot.offset, count, slot.numel / count, power,
             sums.mutable_data_ptr<double>());
  }
  if (parameter.shape.front().whole() == axis) return sums;
  return rows_of(in.graph, sums, {parameter.shape.front()}, axis, {true}).sum(1);
}

// How the numbers of several layers that make a width become one.
at::Tensor reduced(const std::vector<at::Tensor>& of_layers, const std::string& how) {
  at::Tensor all = of_layers.front().clone();
  for (size_t i = 1; i < of_layers.size(); ++i)
    all = how == "max" ? at::maximum(all, of_layers[i]) : all + of_layers[i];
  if (how == "mean") all = all / static_cast<double>(of_layers.size());
  return all;
}

// Norms of filters and units (l1: Li et al. 2017; l2: He et al. 2018), or of all that goes with a position (the group
// norm of DepGraph, Fang et al. 2023, eq. (4)).
template <int power>
class NormScore final : public Score {
 public:
  struct Options {
    std::string of = "filters";
    std::string reduce = "joint";
    static void declare(Declare<Options>& p) {
      p("of", &Options::of, one_of({"filters", "group"}),
        "What belongs to a position; filters: the weights of the filters or units that make it; group: all that goes "
        "with it, which is also biases, the terms of norms, and the columns of the layers that read it.");
      p("reduce", &Options::reduce, one_of({"joint", "sum", "mean", "max"}),
        "How the norms of several layers that make a width together become one; joint: the norm of all their weights "
        "as one vector.");
    }
  };
  explicit NormScore(Options o) : o_(std::move(o)) {}

  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      std::vector<at::Tensor> sums;
      if (o_.of == "filters") {
        for (const ParamId p : in.graph.producers(axis))
          sums.push_back(sums_of(in, p, axis, makes(in.graph, p, axis), power));
      } else {
        for (size_t i = 0; i < in.graph.parameters().size(); ++i) add_group(in, {static_cast<int32_t>(i)}, axis, sums);
      }
      if (o_.reduce != "joint" && power == 2) {
        for (at::Tensor& s : sums) s = s.sqrt();
      }
      at::Tensor norm = reduced(sums, o_.reduce == "joint" ? "sum" : o_.reduce);
      if (o_.reduce == "joint" && power == 2) norm = norm.sqrt();
      all.push_back(scores_of(axis, norm));
    }
    return all;
  }

 private:
  static void add_group(const ScoreInput& in, ParamId p, Axis axis, std::vector<at::Tensor>& sums) {
    if (in.graph[p].role != Role::weight) return;
    for (const std::vector<bool>& dimensions : {makes(in.graph, p, axis), reads(in.graph, p, axis)}) {
      if (std::ranges::find(dimensions, true) != dimensions.end())
        sums.push_back(sums_of(in, p, axis, dimensions, power));
    }
  }
  Options o_;
};

// Network slimming (Liu et al. 2017): the size of the scale that batch norm gives a channel. Where several batch norms
// scale a width, their sizes are summed, averaged, or the largest counts. A view that reads a batch norm has the scales
// of the channels that it reads.
class BnScaleScore final : public Score {
 public:
  struct Options {
    std::string reduce = "mean";
    static void declare(Declare<Options>& p) {
      p("reduce", &Options::reduce, one_of({"mean", "sum", "max"}),
        "How the scales of several batch norms of a width become one.");
    }
  };
  explicit BnScaleScore(Options o) : o_(std::move(o)) {}

  bool judges_views() const override { return true; }
  std::string why_not(const Graph& graph, Axis axis) const override {
    return scales(graph, axis).empty() && !read_by_view(graph, axis) ? "no batch norm scales it" : "";
  }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      std::vector<at::Tensor> sizes;
      for (const ParamId p : scales(in.graph, axis)) sizes.push_back(sums_of(in, p, axis, makes(in.graph, p, axis), 1));
      if (const auto read = sizes.empty() ? read_by_view(in.graph, axis) : std::nullopt) {
        const at::Tensor index = at::tensor(read->second, at::kLong);
        const at::Tensor size = in.weights[read->first].detach().to(at::kCPU, at::kDouble).abs();
        sizes.push_back(size.index_select(0, index.clamp_min(0)) * index.ge(0));
      }
      all.push_back(scores_of(axis, reduced(sizes, o_.reduce)));
    }
    return all;
  }

 private:
  static std::vector<ParamId> scales(const Graph& graph, Axis axis) {
    std::vector<ParamId> found;
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const Parameter& p = graph.parameters()[i];
      if (p.kind == "norm_weight" && graph.nodes()[static_cast<size_t>(p.node)].op->type() == "batch_norm" &&
          p.shape.front().reads(axis))
        found.push_back({static_cast<int32_t>(i)});
    }
    return found;
  }
  // The scales of the batch norm that a view reads, with the view's index.
  static std::optional<std::pair<ParamId, Indices>> read_by_view(const Graph& graph, Axis axis) {
    for (const ViewInfo& v : views(graph)) {
      if (v.axis != axis) continue;
      const int32_t maker = graph[graph.nodes()[static_cast<size_t>(v.node)].inputs.front()].producer;
      if (maker < 0) continue;
      const Node& n = graph.nodes()[static_cast<size_t>(maker)];
      if (n.op->type() != "batch_norm") continue;
      for (const ParamId p : n.parameters) {
        if (graph[p].kind == "norm_weight") return std::pair(p, v.index);
      }
    }
    return std::nullopt;
  }
  Options o_;
};

// The size of the coefficient with which a gate multiplies a position; of several gates, the product.
class GateScore final : public Score {
 public:
  using Options = NoOptions;
  explicit GateScore(Options) {}

  bool judges_views() const override { return true; }
  std::string why_not(const Graph& graph, Axis axis) const override {
    return coefficients(graph, axis).empty() ? "no gate with coefficients of its own multiplies it" : "";
  }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      at::Tensor product;
      for (const ParamId p : coefficients(in.graph, axis)) {
        const at::Tensor size = in.weights[p].detach().to(at::kCPU, at::kDouble).abs().flatten();
        product = product.defined() ? product * size : size;
      }
      all.push_back(scores_of(axis, product));
    }
    return all;
  }

 private:
  static std::vector<ParamId> coefficients(const Graph& graph, Axis axis) {
    std::vector<ParamId> found;
    for (const GateInfo& g : graph.gates()) {
      if (g.axis == axis && g.parameter.id >= 0 && std::ranges::find(found, g.parameter) == found.end())
        found.push_back(g.parameter);
    }
    return found;
  }
};

// Filter pruning via geometric median (He et al. 2019, eq. (4)): the sum of the distances from a filter to all others
// of its width. Filters near the median of all can be replaced by the others. A filter is what all layers that make the
// width have at the position.
class FpgmScore final : public Score {
 public:
  using Options = NoOptions;
  explicit FpgmScore(Options) {}

  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      std::vector<at::Tensor> parts;
      for (const ParamId p : in.graph.producers(axis))
        parts.push_back(rows_of(in.graph, in.weights[p], in.graph[p].shape, axis, makes(in.graph, p, axis)));
      const at::Tensor x = parts.size() == 1 ? parts.front() : at::cat(parts, 1);
      // |a - b|^2 = |a|^2 + |b|^2 - 2 a b: one product of matrices. The diagonal is zero, whatever rounding says.
      const at::Tensor squares = x.square().sum(1);
      at::Tensor distances = squares.unsqueeze(1) + squares.unsqueeze(0) - 2 * at::matmul(x, x.t());
      distances.fill_diagonal_(0).clamp_min_(0).sqrt_();
      all.push_back(scores_of(axis, distances.sum(1)));
    }
    return all;
  }
};

// Layer-adaptive magnitudes (Lee et al. 2021, eq. (5)) of whole filters: the squared norm divided by the sum of all
// squared norms of the width that are at least as large (of equal ones, those that stand behind it). The largest of
// each width has the score 1, so scores of different widths compare.
class LampScore final : public Score {
 public:
  using Options = NoOptions;
  explicit LampScore(Options) {}

  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      std::vector<at::Tensor> sums;
      for (const ParamId p : in.graph.producers(axis))
        sums.push_back(sums_of(in, p, axis, makes(in.graph, p, axis), 2));
      AxisScores s = scores_of(axis, reduced(sums, "sum"));
      Indices order(s.scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {}, [&](int64_t k) { return s.scores[static_cast<size_t>(k)]; });
      double rest = 0;
      for (size_t i = order.size(); i-- > 0;) {
        double& score = s.scores[static_cast<size_t>(order[i])];
        rest += score;
        score = rest > 0 ? score / rest : 0;
      }
      all.push_back(std::move(s));
    }
    return all;
  }
};

// What every other score has to beat.
class RandomScore final : public Score {
 public:
  struct Options {
    int64_t seed = 0;
    static void declare(Declare<Options>& p) {
      p("seed", &Options::seed, at_least(0), "Seed of the draws, beside that of the run.");
    }
  };
  explicit RandomScore(Options o) : o_(o) {}

  bool judges_views() const override { return true; }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      const RandomKey key = in.key.with("random score").with(static_cast<uint64_t>(o_.seed)).with(in.graph[axis].name);
      all.push_back(scores_of(axis, uniform({in.graph[axis].size}, 0, 1, key)));
    }
    return all;
  }

 private:
  Options o_;
};

}  // namespace

std::vector<Component> weight_scores() {
  std::vector<Component> all;
  all.push_back(component<NormScore<1>>("l1", "l1 norm of filters and units (Li et al. 2017)"));
  all.push_back(component<NormScore<2>>("l2", "l2 norm of filters and units, or of all that goes with a position"));
  all.push_back(component<BnScaleScore>("bn_scale", "size of the scales of batch norms (network slimming)"));
  all.push_back(component<GateScore>("gate", "size of the coefficients of gates"));
  all.push_back(component<FpgmScore>("fpgm", "distance to all other filters of the width (He et al. 2019)"));
  all.push_back(component<LampScore>("lamp", "squared norm relative to those that are larger (Lee et al. 2021)"));
  all.push_back(component<RandomScore>("random", "random numbers"));
  return all;
}

}  // namespace espalier
