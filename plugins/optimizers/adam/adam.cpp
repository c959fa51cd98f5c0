#include "adam.h"

#include <cmath>

#include <espalier/flat_optimizer.h>
#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/step_scalars.h>

#include "adam_cuda.h"
#include "adam_pass.h"

namespace espalier {

class Adam : public FlatOptimizer, public Foresight {
 public:
  struct Options {
    double lr = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 0;
    bool decoupled = false;
    Selector decay_on = Selector("all");

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate.");
      p("beta1", &Options::beta1, at_least(0), below(1), "Decay of the running mean of the gradients.");
      p("beta2", &Options::beta2, at_least(0), below(1), "Decay of the running mean of the squared gradients.");
      p("eps", &Options::eps, above(0), "Number that is added to the root of the mean square.");
      p("weight_decay", &Options::weight_decay, at_least(0),
        "Weight decay: this factor times the weights is added to their gradient.");
      p("decoupled", &Options::decoupled,
        "Whether the weight decay acts on the weights and not through the moments, as in AdamW.");
      p("decay_on", &Options::decay_on, "Parameters that the weight decay acts on.");
    }
  };

  explicit Adam(Options options) : o_(std::move(options)) {}

  double learning_rate() const override { return o_.lr; }

  std::vector<std::string> idle(const Graph&, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.weight_decay > 0) return lines;
    if (o_.decoupled) lines.emplace_back("it decays no weights: 'weight_decay' is 0");
    if (o_.decay_on.str() != Options().decay_on.str())
      lines.emplace_back("'decay_on' is without effect where 'weight_decay' is 0");
    return lines;
  }

 protected:
  std::vector<std::string> states() const override { return {"mean", "square"}; }
  double weight_decay() const override { return o_.weight_decay; }
  const Selector& decayed() const override { return o_.decay_on; }

  void begin_step(Weights& weights, double lr) override {
    const double t = ++weights.counters()[state_name("steps")];
    scalars_.set({lr, lr / (1 - std::pow(o_.beta1, t)), std::sqrt(1 - std::pow(o_.beta2, t))}, weights.device());
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
    const AdamFormula<T> formula{static_cast<T>(o_.beta1), static_cast<T>(o_.beta2), static_cast<T>(o_.eps),
                                 o_.decoupled};
    T* w = part.bank->values.flat().data_ptr<T>();
    const T* g = part.bank->gradients.flat().data_ptr<T>();
    T* m = arena(part, state_name("mean")).flat().data_ptr<T>();
    T* v = arena(part, state_name("square")).flat().data_ptr<T>();
    if (weights.device().is_cuda()) {
      return launch_adam(part.bank->values.numel(), part.table.data_ptr<double>(), scalars_.data(), w, g, m, v, formula,
                         weights.device().index());
    }
    for (const Span& span : part.spans)
      adam_pass(span.begin, span.end, span.decay, scalars_.data(), w, g, m, v, formula);
  }

  Options o_;
  StepScalars scalars_;
};

// Loshchilov & Hutter 2019, with the defaults of PyTorch's: weight decay acts on the weights alone.
class AdamW final : public Adam {
 public:
  struct Options {
    double lr = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 1e-2;
    Selector decay_on = Selector("all");

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate.");
      p("beta1", &Options::beta1, at_least(0), below(1), "Decay of the running mean of the gradients.");
      p("beta2", &Options::beta2, at_least(0), below(1), "Decay of the running mean of the squared gradients.");
      p("eps", &Options::eps, above(0), "Number that is added to the root of the mean square.");
      p("weight_decay", &Options::weight_decay, at_least(0),
        "Weight decay: this factor times the learning rate times the weights is subtracted from them.");
      p("decay_on", &Options::decay_on, "Parameters that the weight decay acts on.");
    }
  };
  explicit AdamW(const Options& o)
      : Adam({.lr = o.lr,
              .beta1 = o.beta1,
              .beta2 = o.beta2,
              .eps = o.eps,
              .weight_decay = o.weight_decay,
              .decoupled = true,
              .decay_on = o.decay_on}) {}
};

ESPALIER_PLUGIN("adam", "1.0.0",
                component<Adam>("adam", "Adam; weight decay goes through its moments, unless it is decoupled")
                    .provide("state:mean")
                    .provide("state:square"),
                component<AdamW>("adamw", "AdamW: Adam whose weight decay acts on the weights alone")
                    .provide("state:mean")
                    .provide("state:square"));

}  // namespace espalier
