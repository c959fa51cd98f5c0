#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>

#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// weight * sum |w| over the selected parameters. By subgradients, of which that at zero is zero, numbers come near
// zero; by the proximal step of the penalty after each update, soft thresholding by the learning rate times the weight
// (Parikh and Boyd 2014, section 6.5.2), they become exactly zero.
class L1 final : public Regularizer {
 public:
  struct Options {
    double weight = 1e-4;
    Selector on = Selector("weights");
    std::string solver = "subgradient";

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Parameters that are penalised.");
      p("solver", &Options::solver, one_of({"subgradient", "proximal"}),
        "How the penalty acts; subgradient: through the gradient; proximal: by a step of its own after each update, "
        "which brings numbers towards zero by the learning rate times the weight, and makes those exactly zero that "
        "are smaller.");
    }
  };

  explicit L1(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights&) override { selected_ = o_.on.match(graph); }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    for (const ParamId id : selected_) {
      const at::Tensor w = weights[id].detach();
      if (!proximal()) at::Tensor(weights.gradient(id)).add_(at::sign(w), o_.weight);
      value.add_(w.abs().sum(at::kDouble), o_.weight);
    }
  }

  void after_update(const Graph&, Weights& weights, const LearningRates& rates) override {
    if (!proximal()) return;
    for (const ParamId id : selected_) {
      if (rates[id] == 0) continue;
      at::Tensor w = weights[id].detach();
      w.copy_(w.sign() * (w.abs() - rates[id] * o_.weight).clamp_min(0));
    }
  }

 private:
  bool proximal() const { return o_.solver == "proximal"; }
  Options o_;
  std::vector<ParamId> selected_;
};

ESPALIER_PLUGIN("l1", "1.0.0", component<L1>("l1", "sum of absolute values"));

}  // namespace espalier
