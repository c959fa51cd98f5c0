#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/own_step.h>
#include <espalier/plugin.h>

namespace espalier {

// Sharpness-aware minimization (Foret, Kleiner, Mobahi and Neyshabur, ICLR 2021, algorithm 1): the gradient is that of
// the worst point in a ball around the weights, to first order.
class Sam final : public Controller, public OwnStep {
 public:
  struct Options {
    double rho = 0.05;

    static void declare(Declare<Options>& p) {
      p("rho", &Options::rho, above(0), "Radius of the ball, as the l2 norm over all weights.");
    }
  };

  explicit Sam(const Options& options) : o_(options) {}

  // Each batch goes through the network twice.
  StepCost step_cost() const override { return {.passes = 2}; }

  void step(Run& run, const Batch& batch) override {
    Weights& weights = run.weights();
    const at::Tensor values = weights.bank(Role::weight).values.flat();
    const at::Tensor gradients = weights.bank(Role::weight).gradients.flat();
    weights.zero_gradients();
    run.add_gradients(batch, weights);
    const at::Tensor before = values.clone();
    {
      const c10::NoGradGuard no_grad;
      // Without waiting for the device: the norm stays a tensor.
      values.add_(gradients * (o_.rho / (gradients.norm() + 1e-12)));
    }
    weights.zero_gradients();
    // The batch was counted by the first pass, and its statistics are those at the weights themselves.
    run.add_gradients(batch, weights, GradientPass{.statistics = false, .metrics = false});
    {
      const c10::NoGradGuard no_grad;
      values.copy_(before);
    }
    run.add_regularizers(weights);
    run.update(weights);
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN(
    "sam", "0.1.0",
    component<Sam>("sam",
                   "sharpness-aware minimization: the gradient at the worst point of a ball around the weights"));

}  // namespace espalier
