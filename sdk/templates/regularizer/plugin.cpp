#include <ATen/ops/sum.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>
#include <espalier/selector.h>

namespace espalier {

// weight * sum w^4 over the selected parameters. Return a scalar of the parameters and autograd does the rest; for
// speed derive from Regularizer instead and add value and gradient yourself.
class @CLASS@ final : public AutogradRegularizer {
 public:
  struct Options {
    double weight = 1e-3;
    Selector on = Selector("weights");

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("on", &Options::on, "Parameters that are penalised.");
    }
  };

  explicit @CLASS@(Options options) : o_(std::move(options)) {}

  at::Tensor penalty(const Graph& graph, const Weights& weights) override {
    at::Tensor total;
    for (const ParamId p : o_.on.match(graph)) {
      const at::Tensor term = weights[p].pow(4).sum();
      total = total.defined() ? total.add(term) : term;
    }
    return total.mul(o_.weight);
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "sum of fourth powers"));

}  // namespace espalier
