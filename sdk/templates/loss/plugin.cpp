#include <espalier/error.h>
#include <espalier/loss.h>
#include <espalier/plugin.h>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/where.h>

namespace espalier {

// Cross-entropy that stops counting samples once the network is as sure of them as it need be: those whose own loss is
// below a margin add nothing, and no gradient.
class @CLASS@ final : public Loss {
 public:
  struct Options {
    double margin = 0.05;

    static void declare(Declare<Options>& p) {
      p("margin", &Options::margin, at_least(0), "Loss of a sample below which it no longer counts.");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  void check(const TargetSpec& target) const override {
    if (target.task != task::classification) throw Error("@NAME@ is a loss for classification");
  }
  at::Tensor value(const Prediction& p) const override {
    const at::Tensor each = at::cross_entropy_loss(p.output(), p.batch.target(), {}, at::Reduction::None);
    return at::where(each > o_.margin, each, 0).mean();
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "cross-entropy without the samples that are learned"));

}  // namespace espalier
