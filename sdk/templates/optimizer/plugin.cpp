#include <espalier/flat_optimizer.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

namespace espalier {

// Sign descent with momentum: w -= lr * sign(m), m = momentum * m + g. One formula over flat memory; the state follows
// every edit of the structure because it is named here.
class @CLASS@ final : public FlatOptimizer {
 public:
  struct Options {
    double lr = 1e-3;
    double momentum = 0.9;

    static void declare(Declare<Options>& p) {
      p("lr", &Options::lr, above(0), "Learning rate.");
      p("momentum", &Options::momentum, at_least(0), below(1), "Share of the last gradients in the next step.");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  double learning_rate() const override { return o_.lr; }

 protected:
  std::vector<std::string> states() const override { return {"momentum"}; }
  void begin_step(Weights&, double learning_rate) override { lr_ = learning_rate; }

  void update(Weights& weights, Part& part) override {
    if (!weights.device().is_cpu()) throw Error("@NAME@ runs on the CPU only");
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
    const T lr = static_cast<T>(lr_);
    const T momentum = static_cast<T>(o_.momentum);
    for (const Span& span : part.spans) {
      parallel_for(span.end - span.begin, 1 << 15, [&](int64_t begin, int64_t end) {
        for (int64_t i = span.begin + begin; i < span.begin + end; ++i) {
          m[i] = momentum * m[i] + g[i];
          w[i] -= m[i] > 0 ? lr : m[i] < 0 ? -lr : 0;
        }
      });
    }
  }

  Options o_;
  double lr_ = 0;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>(
    "@NAME@", "sign descent with momentum").provide("state:momentum"));

}  // namespace espalier
