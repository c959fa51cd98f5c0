// Scores that look at feature maps.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_matrix_rank.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/score.h"
#include "scores/batches.h"
#include "scores/builtin.h"

namespace espalier {

namespace {

bool is_image(const Graph& graph, Edge e) {
  return graph[e].shape.size() == 3 && channel_dim(graph[e].shape) == 0;
}

// A mean over feature maps: of each width, over samples and over the layers that make it.
class FeatureScore : public Score {
 public:
  explicit FeatureScore(int64_t batches) : batches_(batches) {}
  int64_t batches() const override { return batches_; }
  std::string why_not(const Graph& graph, Axis axis) const override { return maps(graph, axis).empty() ? lacks() : ""; }
  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<std::vector<Edge>> edges;
    std::vector<Edge> every;
    std::vector<at::Tensor> sums;
    for (const Axis axis : axes) {
      edges.push_back(maps(in.graph, axis));
      every.insert(every.end(), edges.back().begin(), edges.back().end());
      sums.push_back(at::zeros({in.graph[axis].size}, at::kDouble));
    }
    double samples = 0;
    for_batches(in, batches_, [&](const Batch& batch) {
      Features features;
      loss_with_features(in, batch, every, false, features);
      samples += static_cast<double>(batch.size());
      for (size_t i = 0; i < axes.size(); ++i) {
        for (const Edge e : edges[i]) sums[i] += of_maps(in.graph, e, feature_at(features, e), axes[i]).sum(0);
      }
    });
    std::vector<AxisScores> all;
    for (size_t i = 0; i < axes.size(); ++i)
      all.push_back(scores_of(axes[i], sums[i] / (samples * static_cast<double>(edges[i].size()))));
    return all;
  }

 protected:
  virtual std::string lacks() const = 0;
  // Whether the map counts.
  virtual bool fits(const Graph& graph, Edge e) const = 0;
  // [batch, positions]
  virtual at::Tensor of_maps(const Graph& graph, Edge e, const at::Tensor& value, Axis axis) const = 0;

 private:
  std::vector<Edge> maps(const Graph& graph, Axis axis) const {
    std::vector<Edge> edges = feature_edges(graph, axis, /*sums=*/true);
    std::erase_if(edges, [&](Edge e) { return !fits(graph, e); });
    return edges;
  }
  int64_t batches_;
};

struct BatchesOption {
  int64_t batches = 4;
  static void declare(Declare<BatchesOption>& p) {
    p("batches", &BatchesOption::batches, at_least(1), at_most(1e6), unit("batches"),
      "Number of training batches whose feature maps are looked at.");
  }
};

// Network trimming (Hu et al. 2016, eq. (1)): the share of the activations behind a ReLU that are not zero. APoZ is the
// share of zeros, of which the largest goes first; the score is 1 - APoZ.
class ApozScore final : public FeatureScore {
 public:
  using Options = BatchesOption;
  explicit ApozScore(const Options& o) : FeatureScore(o.batches) {}

 private:
  std::string lacks() const override { return "no ReLU follows the layers that make it"; }
  bool fits(const Graph& graph, Edge e) const override {
    if (graph[e].producer < 0) return false;
    const std::string type = graph.nodes()[static_cast<size_t>(graph[e].producer)].op->type();
    return type == "relu" || type == "relu6";
  }
  at::Tensor of_maps(const Graph& graph, Edge e, const at::Tensor& value, Axis axis) const override {
    return feature_rows(graph, e, value, axis).gt(0).to(at::kDouble).mean(2);
  }
};

// HRank (Lin et al. 2020, eq. (8)): the mean rank of the feature maps as matrices of height x width.
class HrankScore final : public FeatureScore {
 public:
  using Options = BatchesOption;
  explicit HrankScore(const Options& o) : FeatureScore(o.batches) {}

 private:
  std::string lacks() const override { return "its layers make no images, whose rank could be computed"; }
  bool fits(const Graph& graph, Edge e) const override { return is_image(graph, e); }
  at::Tensor of_maps(const Graph& graph, Edge e, const at::Tensor& value, Axis axis) const override {
    const std::vector<int64_t> sizes = graph.sizes(graph[e].shape);
    const at::Tensor rows = feature_rows(graph, e, value, axis);  // groups: several images of a position
    const at::Tensor images = rows.reshape({rows.size(0), rows.size(1), -1, sizes[1], sizes[2]});
    // In the precision of the maps: what is smaller than their rounding is no rank.
    return at::linalg_matrix_rank(images.to(at::kFloat)).to(at::kDouble).sum(2);
  }
};

}  // namespace

std::vector<Component> feature_scores() {
  std::vector<Component> all;
  all.push_back(component<ApozScore>("apoz", "share of activations that are not zero (Hu et al. 2016)"));
  all.push_back(component<HrankScore>("hrank", "mean rank of the feature maps (Lin et al. 2020)"));
  return all;
}

}  // namespace espalier
