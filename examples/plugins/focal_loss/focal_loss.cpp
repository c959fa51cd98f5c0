#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>

#include <espalier/error.h>
#include <espalier/loss.h>
#include <espalier/plugin.h>

namespace espalier {

// The focal loss (Lin, Goyal, Girshick, He and Dollar, ICCV 2017, equation 4): cross-entropy that counts a sample less
// the surer the network is of it.
class Focal final : public Loss {
 public:
  struct Options {
    double gamma = 2;

    static void declare(Declare<Options>& p) {
      p("gamma", &Options::gamma, at_least(0), "Exponent of 1 - p; 0 is cross-entropy.");
    }
  };

  explicit Focal(const Options& options) : o_(options) {}

  void check(const TargetSpec& target) const override {
    if (target.task != task::classification) throw Error("the focal loss is for classification");
  }
  at::Tensor value(const Prediction& p) const override {
    // In float32 also where the network computes in bfloat16: 1 - p of a sure sample has few digits.
    const at::Tensor logits = p.output().scalar_type() == at::kDouble ? p.output() : p.output().to(at::kFloat);
    const at::Tensor log_p = at::log_softmax(logits, 1).gather(1, p.batch.target().unsqueeze(1)).squeeze(1);
    return -((1 - log_p.exp()).clamp_min(0).pow(o_.gamma) * log_p).mean();
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("focal_loss", "0.1.0", component<Focal>("focal_loss", "cross-entropy that counts sure samples less"));

}  // namespace espalier
