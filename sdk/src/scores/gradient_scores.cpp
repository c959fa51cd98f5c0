// Scores that look at the gradients of the loss.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/score.h"
#include "scores/batches.h"
#include "scores/builtin.h"

namespace espalier {

namespace {

// The weights and biases of the layers that make a width.
std::vector<ParamId> parameters_of(const Graph& graph, Axis axis) {
  std::vector<ParamId> found;
  for (const ParamId weight : graph.producers(axis)) {
    for (const ParamId p : graph.nodes()[static_cast<size_t>(graph[weight].node)].parameters) {
      const std::vector<bool> dimensions = makes(graph, p, axis);
      const bool counts = (graph[p].kind == "weight" || graph[p].kind == "bias") && graph[p].role == Role::weight;
      if (counts && std::ranges::find(dimensions, true) != dimensions.end()) found.push_back(p);
    }
  }
  return found;
}

// What a position has of a product of values and gradients: the rows of `of(w, g)`.
template <class Of>
at::Tensor sums_over(const ScoreInput& in, Axis axis, const Of& of) {
  at::Tensor total = at::zeros({in.graph[axis].size}, at::kDouble);
  for (const ParamId p : parameters_of(in.graph, axis)) {
    const at::Tensor w = in.weights[p].detach().to(at::kCPU, at::kDouble);
    const at::Tensor g = in.weights.gradient(p).to(at::kCPU, at::kDouble);
    total += rows_of(in.graph, of(w, g), in.graph[p].shape, axis, makes(in.graph, p, axis)).sum(1);
  }
  return total;
}

std::vector<at::Tensor> zeros_for(const Graph& graph, const std::vector<Axis>& axes) {
  std::vector<at::Tensor> all;
  for (const Axis axis : axes) all.push_back(at::zeros({graph[axis].size}, at::kDouble));
  return all;
}

std::vector<AxisScores> means(const std::vector<Axis>& axes, const std::vector<at::Tensor>& sums, double count) {
  std::vector<AxisScores> all;
  for (size_t i = 0; i < axes.size(); ++i) all.push_back(scores_of(axes[i], sums[i] / count));
  return all;
}

// The change of the loss, to first order, where a position goes.
// of: weights. Molchanov et al. 2019, eq. (8), of the weights and biases of a position: the mean over the batches of
// (sum of gradient times value)^2.
// of: activations. Molchanov et al. 2016, eq. (8): the mean over the samples of |sum over the feature map of gradient
// times activation|, without the division by the size of the map, which would favour large maps. Of several layers
// that make a width the sums are added before the absolute value, because the maps go together.
class TaylorScore final : public Score {
 public:
  struct Options {
    std::string of = "weights";
    int64_t batches = 4;
    static void declare(Declare<Options>& p) {
      p("of", &Options::of, one_of({"weights", "activations"}),
        "What the loss is differentiated by; weights: those of the filters or units and their biases; activations: the "
        "feature maps behind batch norm and activation function.");
      p("batches", &Options::batches, at_least(1), at_most(1e6), unit("batches"),
        "Number of training batches that are averaged.");
    }
  };
  explicit TaylorScore(Options o) : o_(std::move(o)) {}

  int64_t batches() const override { return o_.batches; }
  std::string why_not(const Graph& graph, Axis axis) const override {
    return o_.of == "activations" && feature_edges(graph, axis).empty() ? "no layer that makes it has a feature map"
                                                                        : "";
  }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    return o_.of == "weights" ? of_weights(in, axes) : of_activations(in, axes);
  }

 private:
  std::vector<AxisScores> of_weights(const ScoreInput& in, const std::vector<Axis>& axes) const {
    std::vector<at::Tensor> sums = zeros_for(in.graph, axes);
    for_batches(in, o_.batches, [&](const Batch& batch) {
      in.run->loss(batch, nullptr).backward();
      const c10::NoGradGuard no_grad;
      for (size_t i = 0; i < axes.size(); ++i)
        sums[i] += sums_over(in, axes[i], [](const at::Tensor& w, const at::Tensor& g) { return w * g; }).square();
    });
    return means(axes, sums, static_cast<double>(o_.batches));
  }
  std::vector<AxisScores> of_activations(const ScoreInput& in, const std::vector<Axis>& axes) const {
    std::vector<std::vector<Edge>> edges;
    std::vector<Edge> every;
    for (const Axis axis : axes) {
      edges.push_back(feature_edges(in.graph, axis));
      every.insert(every.end(), edges.back().begin(), edges.back().end());
    }
    std::vector<at::Tensor> sums = zeros_for(in.graph, axes);
    double samples = 0;
    for_batches(in, o_.batches, [&](const Batch& batch) {
      Features features;
      loss_with_features(in, batch, every, true, features).backward();
      const c10::NoGradGuard no_grad;
      const auto size = static_cast<double>(batch.size());
      samples += size;
      for (size_t i = 0; i < axes.size(); ++i) {
        at::Tensor change;  // [batch, positions]; the loss is a mean, that of a sample is `size` times as much
        for (const Edge e : edges[i]) {
          const at::Tensor& z = feature_at(features, e);
          if (!z.grad().defined()) continue;
          const at::Tensor here = feature_rows(in.graph, e, z.detach() * z.grad(), axes[i]).sum(2) * size;
          change = change.defined() ? change + here : here;
        }
        if (change.defined()) sums[i] += change.abs().sum(0);
      }
    });
    return means(axes, sums, samples);
  }
  Options o_;
};

// Optimal brain damage (LeCun et al. 1990, eq. (5)) with the diagonal of the empirical Fisher matrix in place of the
// Hessian (Theis et al. 2018): half the sum over the weights and biases of a position of (mean square of the gradient)
// times value^2.
class ObdScore final : public Score {
 public:
  struct Options {
    int64_t batches = 4;
    std::string gradients = "batch";
    static void declare(Declare<Options>& p) {
      p("batches", &Options::batches, at_least(1), at_most(1e6), unit("batches"),
        "Number of training batches that are averaged.");
      p("gradients", &Options::gradients, one_of({"batch", "sample"}),
        "Whose gradients are squared; batch: those of each batch; sample: those of each sample, which is the Fisher "
        "matrix itself and takes as many passes as there are samples.");
    }
  };
  explicit ObdScore(Options o) : o_(std::move(o)) {}

  int64_t batches() const override { return o_.batches; }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    std::vector<at::Tensor> sums = zeros_for(in.graph, axes);
    double count = 0;
    const auto add = [&](const Batch& batch) {
      in.run->loss(batch, nullptr).backward();
      const c10::NoGradGuard no_grad;
      for (size_t i = 0; i < axes.size(); ++i) {
        sums[i] += sums_over(in, axes[i],
                             [](const at::Tensor& w, const at::Tensor& g) { return 0.5 * w.square() * g.square(); });
      }
      ++count;
    };
    for_batches(in, o_.batches, [&](const Batch& batch) {
      if (o_.gradients == "batch") return add(batch);
      for (int64_t s = 0; s < batch.size(); ++s) {
        in.weights.zero_gradients();
        add(samples_of(batch, s, s + 1));
      }
    });
    return means(axes, sums, count);
  }

 private:
  Options o_;
};

}  // namespace

std::vector<Component> gradient_scores() {
  std::vector<Component> all;
  all.push_back(component<TaylorScore>("taylor", "change of the loss to first order (Molchanov et al. 2016, 2019)"));
  all.push_back(component<ObdScore>("obd", "optimal brain damage with the diagonal of the Fisher matrix"));
  return all;
}

}  // namespace espalier
