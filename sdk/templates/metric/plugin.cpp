#include <espalier/error.h>
#include <espalier/metric.h>
#include <espalier/plugin.h>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

namespace espalier {

// The mean probability that the network gives to the class of a sample, in percent.
class @CLASS@ final : public Metric {
 public:
  struct Options {
    double temperature = 1;

    static void declare(Declare<Options>& p) {
      p("temperature", &Options::temperature, above(0), "Number by which the logits are divided.");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  std::string unit() const override { return "%"; }
  void check(const TargetSpec& target) const override {
    if (target.task != task::classification) throw Error("@NAME@ is a metric of classification");
  }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor all = at::softmax(p.output().to(at::kDouble) / o_.temperature, -1);
    const at::Tensor of_truth = all.gather(1, p.batch.target().unsqueeze(1));
    return at::stack({of_truth.sum(), at::ones_like(of_truth).sum()});
  }
  double value(const at::Tensor& all) const override { return 100 * (all[0] / all[1]).item<double>(); }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "mean probability of the class of a sample"));

}  // namespace espalier
