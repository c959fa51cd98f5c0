#include <espalier/flat_optimizer.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

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
  void begin_step(Weights&, double learning_rate) override { lr_ = learning_rate; }

  void update(Weights& weights, Part& part) override {
    if (!weights.device().is_cpu()) throw Error("lion runs on the CPU only");
    if (weights.dtype() == at::kDouble) {
      pass<double>(part);
    } else {
      pass<float>(part);
    }
  }

 private:
  template <class T>
  void pass(Part& part) {
    T* w = part.bank->values.flat().data_ptr<T>();
    const T* g = part.bank->gradients.flat().data_ptr<T>();
    T* m = arena(part, state_name("momentum")).flat().data_ptr<T>();
    const T lr = static_cast<T>(lr_), b1 = static_cast<T>(o_.beta1), b2 = static_cast<T>(o_.beta2);
    const T decay = static_cast<T>(o_.weight_decay);
    for (const Span& span : part.spans) {
      parallel_for(span.end - span.begin, 1 << 15, [&](int64_t begin, int64_t end) {
        for (int64_t i = span.begin + begin; i < span.begin + end; ++i) {
          const T c = b1 * m[i] + (1 - b1) * g[i];
          const T sign = c > 0 ? T(1) : c < 0 ? T(-1) : T(0);
          w[i] -= lr * (sign + decay * w[i]);
          m[i] = b2 * m[i] + (1 - b2) * g[i];
        }
      });
    }
  }

  Options o_;
  double lr_ = 0;
};

ESPALIER_PLUGIN(
    "lion", "0.1.0",
    component<Lion>("lion", "sign of momentum and gradient, with decoupled weight decay").provide("state:momentum"));

}  // namespace espalier
