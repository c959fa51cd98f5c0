#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>

#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// Network slimming (Liu et al. 2017, eq. (1)): weight * the sum of the absolute scales of batch norms, so that channels
// that do not count get a scale near zero. The subgradient at zero is zero. The score `bn_scale` ranks by it.
class BnScale final : public Regularizer {
 public:
  struct Options {
    double weight = 1e-4;
    Selector on;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Batch norms whose scales are penalised. Left out: all.");
    }
  };

  explicit BnScale(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights&) override {
    scales_.clear();
    for (const ParamId p : o_.on.empty() ? Selector("all").match(graph) : o_.on.match(graph)) {
      const Node& node = graph.nodes()[static_cast<size_t>(graph[p].node)];
      if (graph[p].kind == "norm_weight" && node.op->type() == "batch_norm") scales_.push_back(p);
    }
    if (scales_.empty()) {
      throw Error("there is no batch norm with a scale" + (o_.on.empty() ? "" : " among '" + o_.on.str() + "'") +
                  ": the penalty has nothing to work on");
    }
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    for (const ParamId p : scales_) {
      const at::Tensor w = weights[p].detach();
      at::Tensor(weights.gradient(p)).add_(at::sign(w), o_.weight);
      value.add_(w.abs().sum(at::kDouble), o_.weight);
    }
  }

 private:
  Options o_;
  std::vector<ParamId> scales_;
};

ESPALIER_PLUGIN("bn_scale", "1.0.0",
                component<BnScale>("bn_scale", "sum of the absolute scales of batch norms (network slimming)"));

}  // namespace espalier
