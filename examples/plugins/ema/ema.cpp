#include <ATen/ops/lerp.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/plugin.h>

namespace espalier {

// An exponential moving average of all values, which the network is evaluated with and which it ends with. (A stage has
// the key `ema` for this; here it shows what a controller can do around evaluations.)
class MovingAverage final : public Controller {
 public:
  struct Options {
    double decay = 0.999;

    static void declare(Declare<Options>& p) {
      p("decay", &Options::decay, at_least(0), below(1), "Share of the average that stays in each step.");
    }
  };

  explicit MovingAverage(const Options& options) : o_(options) {}

  void stage_begin(Run& run) override {
    follow(run);
    average_->copy_from(run.weights());
  }
  // The values of what is followed come from the checkpoint.
  void resume(Run& run, const Value&) override { follow(run); }

  void step_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    for (const Role role : roles) {
      const at::Tensor average = average_->bank(role).values.flat();
      if (average.numel() > 0) average.lerp_(run.weights().bank(role).values.flat(), 1 - o_.decay);
    }
  }

  void evaluation_begin(Run& run) override {
    trained_.clear();
    for (const Role role : roles) trained_.push_back(run.weights().bank(role).values.flat().clone());
    run.weights().copy_from(*average_);
  }
  void evaluation_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    for (size_t i = 0; i < trained_.size(); ++i) run.weights().bank(roles[i]).values.flat().copy_(trained_[i]);
    trained_.clear();
  }

  void stage_end(Run& run) override { run.weights().copy_from(*average_); }

 private:
  static constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};

  // From now on edits change the average as they change the network, and checkpoints hold it.
  void follow(Run& run) {
    average_ = std::make_shared<Weights>(run.graph(), run.weights().dtype(), run.weights().device());
    run.follow("moving_average", average_);
  }

  Options o_;
  std::shared_ptr<Weights> average_;
  std::vector<at::Tensor> trained_;  // while the network is evaluated
};

ESPALIER_PLUGIN(
    "ema", "0.1.0",
    component<MovingAverage>("moving_average",
                             "exponential moving average of the values, which the network is evaluated and ends with"));

}  // namespace espalier
