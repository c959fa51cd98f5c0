// Losses of classifiers within a network, which help its first layers to learn.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>

#include <espalier/error.h>
#include <espalier/loss.h>
#include <espalier/plugin.h>
#include <espalier/registry.h>

namespace espalier {

// L(logits) + weight * sum over the named outputs of L(output) in training, and L(logits) in evaluation, where L is
// any loss of the targets (Szegedy et al. 2015, section 5; Liu et al. 2019, section 3.2, with weight .4).
class AuxiliaryLoss final : public Loss {
 public:
  struct Options {
    std::vector<std::string> outputs{"auxiliary"};
    double weight = 0.4;
    Nested loss;

    static void declare(Declare<Options>& p) {
      p("outputs", &Options::outputs,
        "Outputs of the network whose losses are added in training, each compared with the targets as the logits are.");
      p("weight", &Options::weight, at_least(0), "Factor of each of their losses.");
      p("loss", &Options::loss, of_kind("loss"), "Loss of the logits and of each output. Left out: that of the task.");
    }
  };
  explicit AuxiliaryLoss(Options options) : o_(std::move(options)) {
    if (o_.outputs.empty())
      throw Error("'outputs' is empty: name the outputs of the network whose losses are added, such as auxiliary");
    for (const std::string& name : o_.outputs) {
      if (name == "logits") throw Error("'outputs' names logits, whose loss counts anyway: name other outputs");
    }
    if (!o_.loss.value.is_null()) loss_ = Registry::instance().create<Loss>(o_.loss.value);
  }

  std::vector<std::string> outputs() const override {
    std::vector<std::string> all{"logits"};
    all.insert(all.end(), o_.outputs.begin(), o_.outputs.end());
    return all;
  }
  void check(const TargetSpec& target) const override {
    if (loss_) loss_->check(target);
  }
  std::vector<std::string> networks() const override { return loss_ ? loss_->networks() : std::vector<std::string>(); }
  void begin(const LossSetup& setup) override {
    if (!loss_) loss_ = Registry::instance().create<Loss>(default_loss(setup.target));
    loss_->begin(setup);
  }
  at::Tensor value(const Prediction& p) const override {
    at::Tensor sum = loss_->value(p);
    if (!p.training) return sum;
    for (const std::string& name : o_.outputs) {
      const NamedTensors instead{{"logits", p.output(name)}};
      sum = sum + o_.weight * loss_->value({.outputs = instead, .batch = p.batch, .training = true});
    }
    return sum;
  }
  at::Tensor weight(const Batch& batch) const override { return loss_->weight(batch); }

 private:
  Options o_;
  std::unique_ptr<Loss> loss_;
};

ESPALIER_PLUGIN("auxiliary", "1.0.0",
                component<AuxiliaryLoss>("auxiliary", "adds losses of further outputs of the network in training"));

}  // namespace espalier
