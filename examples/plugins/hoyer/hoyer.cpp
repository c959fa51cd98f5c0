#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>

#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// The Hoyer-square penalty (Yang, Wen and Li, ICLR 2020, equation 3): (sum |w|)^2 / sum w^2 of each parameter. It makes
// small weights zero and, unlike l1, does not care how large the large ones are.
class Hoyer final : public AutogradRegularizer {
 public:
  struct Options {
    double weight = 1e-4;
    Selector on = Selector("weights");

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Parameters that are penalised, each by itself.");
    }
  };

  explicit Hoyer(Options options) : o_(std::move(options)) {}

  at::Tensor penalty(const Graph& graph, const Weights& weights) override {
    at::Tensor total;
    for (const ParamId p : o_.on.match(graph)) {
      const at::Tensor w = weights[p];
      // A parameter that is zero everywhere has the penalty zero.
      const at::Tensor term = w.abs().sum().square() / w.square().sum().clamp_min(1e-30);
      total = total.defined() ? total + term : term;
    }
    return total * o_.weight;
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("hoyer", "0.1.0", component<Hoyer>("hoyer", "square of the l1 norm over that of the l2 norm"));

}  // namespace espalier
