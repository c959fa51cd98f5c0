#include <espalier/optimizer.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// weight / 2 * sum w^2 over the selected parameters (paper 001, eq. (9), with the squared norm: checklist 001-X3), so
// that the weight is an optimizer's weight_decay.
class L2 final : public Regularizer {
 public:
  struct Options {
    double weight = 5e-4;
    Selector on = Selector("weights");

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0),
        "Factor of half the sum of squares. It acts as the weight_decay of an optimizer does.");
      p("on", &Options::on, "Parameters that are penalised.");
    }
  };

  explicit L2(Options options) : o_(std::move(options)) {}

  void attach(const Graph& graph, Weights&) override {
    selected_ = o_.on.match(graph);
    if (o_.weight > 0) require_may_decay(graph, selected_, "'l2'");
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    for (const ParamId id : selected_) {
      const at::Tensor w = weights[id].detach();
      at::Tensor(weights.gradient(id)).add_(w, o_.weight);
      value.add_(w.pow(2).sum(at::kDouble), o_.weight / 2);
    }
  }

 private:
  Options o_;
  std::vector<ParamId> selected_;
};

ESPALIER_PLUGIN("l2", "1.0.0", component<L2>("l2", "half the sum of squares"));

}  // namespace espalier
