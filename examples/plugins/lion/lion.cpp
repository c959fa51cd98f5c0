#include "lion.h"

#include <espalier/flat_optimizer.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>
#include <espalier/step_scalars.h>

namespace espalier {

// Lion (Chen et al., NeurIPS 2023, algorithm 2): the sign of an interpolation between momentum and gradient, with
// decoupled weight decay.
class Lion final : public FlatOptimizer {
 public:
  struct Options {
    double lr = 1e-4;
    double beta1 = 0.9;
    double beta2 = 0.99;
    double weight_decay = 0;

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate, about a tenth of what Adam has.");
      p("beta1", &Options::beta1, at_least(0), below(1), "Share of the momentum in the step.");
      p("beta2", &Options::beta2, at_least(0), below(1), "Share of the momentum that stays.");
      p("weight_decay", &Options::weight_decay, at_least(0), "Decoupled weight decay.");
    }
  };

  explicit Lion(const Options& options) : o_(options) {}

  double learning_rate() const override { return o_.lr; }

 protected:
  // It follows every edit of the structure because it is named here.
  std::vector<std::string> states() const override { return {"momentum"}; }
  // The spans carry it, for the kernel as for the CPU.
  double weight_decay() const override { return o_.weight_decay; }
  void begin_step(Weights& weights, double lr) override { scalars_.set({lr}, weights.device()); }

  void update(Weights& weights, Part& part) override {
    if (weights.dtype() == at::kDouble) {
      pass<double>(weights, part);
    } else {
      pass<float>(weights, part);
    }
  }

 private:
  template <class T>
  void pass(const Weights& weights, Part& part) {
    const LionFormula<T> formula{static_cast<T>(o_.beta1), static_cast<T>(o_.beta2)};
    T* w = part.bank->values.flat().data_ptr<T>();
    const T* g = part.bank->gradients.flat().data_ptr<T>();
    T* m = arena(part, state_name("momentum")).flat().data_ptr<T>();
    if (weights.device().is_cuda()) {
      return launch_lion(part.bank->values.numel(), part.table.data_ptr<double>(), scalars_.data(), w, g, m, formula,
                         weights.device().index());
    }
    const T lr = static_cast<T>(*scalars_.data());
    for (const Span& span : part.spans) {
      parallel_for(span.end - span.begin, 1 << 15, [&, decay = static_cast<T>(span.decay)](int64_t begin, int64_t end) {
        for (int64_t i = span.begin + begin; i < span.begin + end; ++i) formula(w[i], g[i], m[i], lr, decay);
      });
    }
  }

  Options o_;
  StepScalars scalars_;
};

ESPALIER_PLUGIN(
    "lion", "0.1.0",
    component<Lion>("lion", "sign of momentum and gradient, with decoupled weight decay").provide("state:momentum"));

}  // namespace espalier
