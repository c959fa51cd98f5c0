#include "sgd.h"

#include <espalier/flat_optimizer.h>
#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/step_scalars.h>

#include "sgd_cuda.h"
#include "sgd_pass.h"

namespace espalier {

class Sgd final : public FlatOptimizer, public Foresight {
 public:
  struct Options {
    double lr = 0.1;
    double momentum = 0;
    bool nesterov = false;
    double weight_decay = 0;
    bool decoupled = false;
    Selector decay_on = Selector("all");

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate.");
      p("momentum", &Options::momentum, at_least(0), below(1), "Share of the last update in the next one.");
      p("nesterov", &Options::nesterov, "Whether the gradient looks ahead along the momentum.");
      p("weight_decay", &Options::weight_decay, at_least(0),
        "Weight decay: this factor times the weights is added to their gradient.");
      p("decoupled", &Options::decoupled,
        "Whether the weight decay acts on the weights and not through the gradient and the momentum.");
      p("decay_on", &Options::decay_on, "Parameters that the weight decay acts on.");
    }
  };

  explicit Sgd(Options options) : o_(std::move(options)) {
    if (o_.nesterov && o_.momentum == 0)
      throw Error("'nesterov' looks ahead along the momentum, and 'momentum' is 0: give it, or leave 'nesterov' out");
  }

  double learning_rate() const override { return o_.lr; }

  std::vector<std::string> idle(const Graph&, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.weight_decay > 0) return lines;
    if (o_.decoupled) lines.emplace_back("'decoupled' is without effect where 'weight_decay' is 0");
    if (o_.decay_on.str() != Options().decay_on.str())
      lines.emplace_back("'decay_on' is without effect where 'weight_decay' is 0");
    return lines;
  }

 protected:
  std::vector<std::string> states() const override { return {"momentum"}; }
  double weight_decay() const override { return o_.weight_decay; }
  const Selector& decayed() const override { return o_.decay_on; }

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
    const SgdFormula<T> formula{static_cast<T>(o_.momentum), o_.nesterov, o_.decoupled};
    T* w = part.bank->values.flat().data_ptr<T>();
    const T* g = part.bank->gradients.flat().data_ptr<T>();
    T* m = arena(part, state_name("momentum")).flat().data_ptr<T>();
    if (weights.device().is_cuda()) {
      return launch_sgd(part.bank->values.numel(), part.table.data_ptr<double>(), scalars_.data(), w, g, m, formula,
                        weights.device().index());
    }
    for (const Span& span : part.spans)
      sgd_pass(span.begin, span.end, span.decay, scalars_.data()[0], w, g, m, formula);
  }

  Options o_;
  StepScalars scalars_;
};

ESPALIER_PLUGIN("sgd", "1.0.0",
                component<Sgd>("sgd", "stochastic gradient descent with momentum, Nesterov's form and weight decay")
                    .provide("state:momentum"));

}  // namespace espalier
