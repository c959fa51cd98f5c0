#include "adagrad.h"

#include <espalier/flat_optimizer.h>
#include <espalier/plugin.h>
#include <espalier/step_scalars.h>

#include "adagrad_cuda.h"
#include "adagrad_pass.h"

namespace espalier {

class Adagrad final : public FlatOptimizer {
 public:
  struct Options {
    double lr = 1e-2;
    double lr_decay = 0;
    double eps = 1e-10;
    double weight_decay = 0;
    Selector decay_on = Selector("all");

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate.");
      p("lr_decay", &Options::lr_decay, at_least(0),
        "Fall of the learning rate: in step t, from 0, it is divided by 1 + t times this number.");
      p("eps", &Options::eps, above(0), "Number that is added to the root of the sum of squares.");
      p("weight_decay", &Options::weight_decay, at_least(0),
        "Weight decay: this factor times the weights is added to their gradient.");
      p("decay_on", &Options::decay_on, "Parameters that the weight decay acts on.");
    }
  };

  explicit Adagrad(Options options) : o_(std::move(options)) {}

  double learning_rate() const override { return o_.lr; }

 protected:
  std::vector<std::string> states() const override { return {"sum"}; }
  double weight_decay() const override { return o_.weight_decay; }
  const Selector& decayed() const override { return o_.decay_on; }

  void begin_step(Weights& weights, double lr) override {
    const double t = weights.counters()[state_name("steps")]++;
    scalars_.set({lr / (1 + t * o_.lr_decay)}, weights.device());
  }

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
    const AdagradFormula<T> formula{static_cast<T>(o_.eps)};
    T* w = part.bank->values.flat().data_ptr<T>();
    const T* g = part.bank->gradients.flat().data_ptr<T>();
    T* sum = arena(part, state_name("sum")).flat().data_ptr<T>();
    if (weights.device().is_cuda()) {
      return launch_adagrad(part.bank->values.numel(), part.table.data_ptr<double>(), scalars_.data(), w, g, sum,
                            formula, weights.device().index());
    }
    for (const Span& span : part.spans)
      adagrad_pass(span.begin, span.end, span.decay, scalars_.data()[0], w, g, sum, formula);
  }

  Options o_;
  StepScalars scalars_;
};

ESPALIER_PLUGIN("adagrad", "1.0.0",
                component<Adagrad>("adagrad", "Adagrad: steps divided by the root of all squared gradients so far")
                    .provide("state:sum"));

}  // namespace espalier
