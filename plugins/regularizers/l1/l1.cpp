#include <ATen/ops/sign.h>

#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// weight * sum |w| over the selected parameters; the subgradient at zero is zero.
class L1 final : public Regularizer {
 public:
  struct Options {
    double weight = 1e-4;
    Selector on = Selector("weights");

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Parameters that are penalised.");
    }
  };

  explicit L1(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights&) override { selected_ = o_.on.match(graph); }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    for (const ParamId id : selected_) {
      const at::Tensor w = weights[id].detach();
      at::Tensor(weights.gradient(id)).add_(at::sign(w), o_.weight);
      value.add_(w.abs().sum(at::kDouble), o_.weight);
    }
  }

 private:
  Options o_;
  std::vector<ParamId> selected_;
};

ESPALIER_PLUGIN("l1", "1.0.0", component<L1>("l1", "sum of absolute values"));

}  // namespace espalier
