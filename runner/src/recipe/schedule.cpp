#include "recipe/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "espalier/build_config.h"
#include "espalier/declare.h"
#include "espalier/error.h"
#include "espalier/foresight.h"

namespace espalier {

namespace {

// Every schedule may begin with a linear rise from zero.
template <class Options>
void declare_warmup(Declare<Options>& p) {
  p("warmup", &Options::warmup, at_least(0), unit("epochs"),
    "Length of a linear rise from zero before the schedule begins.");
}

double warmed(double warmup, double epoch) {
  return epoch < warmup ? epoch / warmup : 1.0;
}

void check_warmup(double warmup, int64_t epochs) {
  if (warmup > static_cast<double>(epochs)) {
    throw Error("'warmup' takes " + to_json(Value(warmup)) + " epochs, and the stage has " + std::to_string(epochs) +
                ": the learning rate would never be reached");
  }
}

class Constant final : public Schedule {
 public:
  struct Options {
    double warmup = 0;
    static void declare(Declare<Options>& p) { declare_warmup(p); }
  };
  explicit Constant(Options o) : o_(o) {}
  double factor(double epoch, int64_t) const override { return warmed(o_.warmup, epoch); }
  void check(int64_t epochs) const override { check_warmup(o_.warmup, epochs); }

 private:
  Options o_;
};

class Step final : public Schedule, public Foresight {
 public:
  struct Options {
    std::vector<double> milestones;
    int64_t every = 0;
    double factor = 0.1;
    double warmup = 0;
    static void declare(Declare<Options>& p) {
      p("milestones", &Options::milestones, above(0), unit("epochs"), formerly("at"),
        "Epochs after which the learning rate falls. Numbers below 1 are fractions of the stage.");
      p("every", &Options::every, at_least(0), unit("epochs"),
        "Number of epochs after which the learning rate falls each time, instead of `milestones`.");
      p("factor", &Options::factor, above(0), at_most(1), "Factor by which the learning rate is multiplied each time.");
      declare_warmup(p);
    }
  };

  explicit Step(Options o) : o_(std::move(o)) {
    if (o_.milestones.empty() == (o_.every == 0)) throw Error("give either 'milestones' (a list of epochs) or 'every'");
    for (const double a : o_.milestones) {
      if (a >= 1 && a != std::floor(a))
        throw Error("'milestones' takes whole epochs, or fractions of the stage below 1");
    }
  }

  double factor(double epoch, int64_t epochs) const override {
    double passed = o_.every > 0 ? std::floor(epoch / static_cast<double>(o_.every)) : 0;
    for (const double a : o_.milestones) passed += epoch >= (a < 1 ? a * static_cast<double>(epochs) : a) ? 1 : 0;
    return std::pow(o_.factor, passed) * warmed(o_.warmup, epoch);
  }
  void check(int64_t epochs) const override {
    check_warmup(o_.warmup, epochs);
    for (const double a : o_.milestones) {
      if (a < static_cast<double>(epochs)) continue;
      throw Error("'milestones' has " + to_json(Value(a)) + ", and the stage ends after " + std::to_string(epochs) +
                  " epochs: the learning rate would not fall there; fractions below 1 are of the stage");
    }
  }
  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (o_.factor == 1) return {"'factor' is 1: the learning rate stays as it is"};
    if (o_.every < epochs || epochs == 0) return {};
    return {"'every' is " + std::to_string(o_.every) + " epochs, and the stage has " + std::to_string(epochs) +
            ": the learning rate does not fall"};
  }

 private:
  Options o_;
};

// m + (1 - m) (1 + cos(pi t)) / 2, m being min_factor, t from 0 to 1 after the warm-up (Loshchilov & Hutter 2017,
// without restarts).
class Cosine final : public Schedule, public Foresight {
 public:
  struct Options {
    double min_factor = 0;
    double warmup = 0;
    static void declare(Declare<Options>& p) {
      p("min_factor", &Options::min_factor, at_least(0), at_most(1), formerly("final"),
        "Learning rate at the end of the stage, as a fraction of that at the beginning.");
      declare_warmup(p);
    }
  };
  explicit Cosine(Options o) : o_(o) {}

  double factor(double epoch, int64_t epochs) const override {
    if (epoch < o_.warmup) return epoch / o_.warmup;
    const double length = static_cast<double>(epochs) - o_.warmup;
    const double t = length > 0 ? std::clamp((epoch - o_.warmup) / length, 0.0, 1.0) : 1.0;
    return o_.min_factor + (1 - o_.min_factor) * 0.5 * (1 + std::cos(std::numbers::pi * t));
  }
  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (o_.min_factor == 1) return {"'min_factor' is 1: the learning rate does not fall"};
    if (epochs > 0 && o_.warmup == static_cast<double>(epochs))
      return {"'warmup' takes all epochs of the stage: the learning rate does not fall"};
    return {};
  }
  void check(int64_t epochs) const override { check_warmup(o_.warmup, epochs); }

 private:
  Options o_;
};

class Plateau final : public Schedule, public Foresight {
 public:
  struct Options {
    int64_t patience = 10;
    double factor = 0.1;
    double min_factor = 0;
    double warmup = 0;
    static void declare(Declare<Options>& p) {
      p("patience", &Options::patience, at_least(0), unit("evaluations"),
        "Number of evaluations without a better accuracy before the learning rate falls.");
      p("factor", &Options::factor, above(0), below(1), "Factor by which the learning rate is multiplied each time.");
      p("min_factor", &Options::min_factor, at_least(0), at_most(1), formerly("least"),
        "Lower bound of the learning rate, as a fraction of that at the beginning.");
      declare_warmup(p);
    }
  };
  explicit Plateau(Options o) : o_(o) {}

  double factor(double epoch, int64_t) const override { return scale_ * warmed(o_.warmup, epoch); }
  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (o_.min_factor == 1) return {"'min_factor' is 1: the learning rate does not fall"};
    // The first evaluation is the best so far, and the rate falls for the steps behind the last that counts.
    if (epochs == 0 || o_.patience + 2 < epochs) return {};
    return {"'patience' is " + std::to_string(o_.patience) + " evaluations, and the stage has " +
            std::to_string(epochs) + " epochs: the learning rate does not fall"};
  }
  void check(int64_t epochs) const override { check_warmup(o_.warmup, epochs); }

  void observe(double metric) override {
    if (!seen_ || metric > best_) {
      seen_ = true;
      best_ = metric;
      waited_ = 0;
    } else if (++waited_ > o_.patience) {
      scale_ = std::max(o_.min_factor, scale_ * o_.factor);
      waited_ = 0;
    }
  }

  Value save() const override {
    return Value::map({{"scale", scale_}, {"waited", waited_}, {"best", seen_ ? Value(best_) : Value()}});
  }
  void load(const Value& v) override {
    scale_ = v.at("scale").as_double();
    waited_ = v.at("waited").as_int();
    seen_ = !v.at("best").is_null();
    best_ = seen_ ? v.at("best").as_double() : 0;
  }

 private:
  Options o_;
  double scale_ = 1;
  int64_t waited_ = 0;
  bool seen_ = false;
  double best_ = 0;
};

}  // namespace

void register_schedules(Registry& registry) {
  const Origin built_in{"espalier", ESPALIER_VERSION, ""};
  registry.add(component<Constant>("constant", "the learning rates stay as they are"), built_in);
  registry.add(component<Step>("step", "falls by a factor after given epochs"), built_in);
  registry.add(component<Cosine>("cosine", "falls along half a cosine to the end of the stage"), built_in);
  registry.add(component<Plateau>("plateau", "falls by a factor when the accuracy stops rising"), built_in);
}

}  // namespace espalier
