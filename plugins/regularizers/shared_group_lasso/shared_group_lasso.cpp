#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>
#include <espalier/selector.h>

namespace espalier {

// A group lasso over everything that goes with a position of a width: the filters of all layers that make it, their
// biases, the terms of norms, and the columns of all layers that read it (the groups of DepGraph, Fang et al. 2023).
// So whole positions of shared widths become zero together, and removing them changes nothing.
// form: lasso. weight * sum over the positions k of ||w_k||_2. The gradient is w_k / ||w_k||, zero where the norm is.
// form: growing. weight / 2 * sum over k of gamma_k ||w_k||^2 with gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)),
// eq. (5) and (6) of the paper: I_k is the norm of the position, and I_max and I_min are the largest and the smallest
// of its width. gamma_k is not differentiated. So the small ones are drawn to zero and the large ones hardly.
class SharedGroupLasso final : public Regularizer {
 public:
  struct Options {
    double weight = 1e-4;
    Selector on;
    std::string form = "lasso";
    double alpha = 4;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on,
        "Layers whose widths are penalised, with everything that shares them. Left out: all widths that can shrink.");
      p("form", &Options::form, one_of({"lasso", "growing"}),
        "Penalty of a position; lasso: its norm; growing: its squared norm times a factor that is the larger the "
        "smaller the norm is beside others of the width.");
      p("alpha", &Options::alpha, at_least(0), at_most(64),
        "Exponent of the form growing: the smallest position of a width is penalised 2^alpha times as much as the "
        "largest.");
    }
  };

  explicit SharedGroupLasso(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights& weights) override {
    widths_.clear();
    for (const Axis axis : prunable_axes(graph, o_.on)) {
      Width width{graph[axis].size, {}};
      for (size_t i = 0; i < graph.parameters().size(); ++i) {
        const ParamId p{static_cast<int32_t>(i)};
        const Parameter& parameter = graph[p];
        if (parameter.role != Role::weight) continue;
        for (size_t d = 0; d < parameter.shape.size(); ++d) {
          if (!parameter.shape[d].reads(axis)) continue;
          Part part{p, static_cast<int64_t>(d), {}, {}};
          if (parameter.shape[d].whole() != axis) {
            const Indices at = axis_positions(graph, parameter.shape[d], axis);
            Indices places, positions;
            for (size_t k = 0; k < at.size(); ++k) {
              if (at[k] < 0) continue;
              places.push_back(static_cast<int64_t>(k));
              positions.push_back(at[k]);
            }
            part.places = at::tensor(places, at::kLong).to(weights.device());
            part.positions = at::tensor(positions, at::kLong).to(weights.device());
          }
          width.parts.push_back(std::move(part));
        }
      }
      widths_.push_back(std::move(width));
    }
    // A width that has shrunk to one position stays, without a penalty.
    const bool first = !attached_;
    attached_ = true;
    if (first && widths_.empty())
      throw Error("no width" + (o_.on.empty() ? "" : " of '" + o_.on.str() + "'") + " can shrink");
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    for (const Width& width : widths_) {
      at::Tensor squares = at::zeros({width.size}, at::TensorOptions().dtype(at::kDouble).device(weights.device()));
      for (const Part& part : width.parts) {
        const at::Tensor s = sums_along(weights[part.parameter].detach(), part.dim);
        if (part.places.defined()) {
          squares.index_add_(0, part.positions, s.index_select(0, part.places));
        } else {
          squares.add_(s);
        }
      }
      const at::Tensor norms = squares.sqrt();
      at::Tensor factors;  // of the values of each position, in the gradient
      if (o_.form == "lasso") {
        value.add_(norms.sum(), o_.weight);
        factors = at::where(norms.gt(0), o_.weight / norms, at::zeros({}, norms.options()));
      } else {
        const at::Tensor most = norms.max(), range = most - norms.min();
        const at::Tensor share = at::where(range.gt(0), (most - norms) / range, at::zeros({}, norms.options()));
        factors = o_.weight * (o_.alpha * std::log(2.0) * share).exp();
        value.add_((factors * squares).sum(), 0.5);
      }
      for (const Part& part : width.parts) {
        const at::Tensor w = weights[part.parameter].detach();
        at::Tensor g = weights.gradient(part.parameter);
        std::vector<int64_t> along(static_cast<size_t>(w.dim()), 1);
        along[static_cast<size_t>(part.dim)] = -1;
        if (part.places.defined()) {
          const at::Tensor f = factors.index_select(0, part.positions).to(w.scalar_type()).view(along);
          g.index_add_(part.dim, part.places, w.index_select(part.dim, part.places) * f);
        } else {
          g.addcmul_(w, factors.to(w.scalar_type()).view(along));
        }
      }
    }
  }

 private:
  // A dimension of a parameter along which the positions lie.
  struct Part {
    ParamId parameter;
    int64_t dim;
    at::Tensor places, positions;  // undefined: the dimension is the width
  };
  struct Width {
    int64_t size;
    std::vector<Part> parts;
  };

  // Sums of squares along all other dimensions, in float64.
  static at::Tensor sums_along(const at::Tensor& w, int64_t dim) {
    std::vector<int64_t> others;
    for (int64_t d = 0; d < w.dim(); ++d) {
      if (d != dim) others.push_back(d);
    }
    if (others.empty()) return w.to(at::kDouble).square();
    return w.square().sum(others, /*keepdim=*/false, at::kDouble);
  }

  Options o_;
  bool attached_ = false;  // before an edit
  std::vector<Width> widths_;
};

ESPALIER_PLUGIN("shared_group_lasso", "1.0.0",
                component<SharedGroupLasso>("shared_group_lasso",
                                            "norms of all that goes with a position of a width (DepGraph)"));

}  // namespace espalier
