// The metrics that the SDK brings.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/metric.h"
#include "tasks/builtin.h"

namespace espalier {

namespace {

constexpr int64_t ignored = -100;
// With fewer, the five best are not worth counting.
constexpr int64_t classes_of_top5 = 20;

void require_task(const TargetSpec& target, const char* wanted, const char* what) {
  if (target.task == wanted) return;
  throw Error(std::string(what) + " is a metric of " + wanted + ", and the task of the data is " + target.task);
}

// Class numbers, one for each row; of mixed labels the most probable.
at::Tensor classes_of(const at::Tensor& target) {
  return (target.is_floating_point() ? target.argmax(-1) : target).flatten();
}

at::Tensor rows(const at::Tensor& x) {
  return x.dim() > 2 ? x.flatten(0, -2) : x;
}

at::Tensor pair_of(const at::Tensor& sum, const at::Tensor& count) {
  return at::stack({sum.to(at::kDouble), count.to(at::kDouble)});
}

double share(const at::Tensor& all) {
  const auto* v = all.const_data_ptr<double>();
  return v[1] > 0 ? 100 * v[0] / v[1] : 0;
}

class Accuracy final : public Metric {
 public:
  using Options = NoOptions;
  explicit Accuracy(Options) {}
  std::string unit() const override { return "%"; }
  void check(const TargetSpec& target) const override { require_task(target, task::classification, "accuracy"); }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor& x = p.output();
    const at::Tensor& y = p.batch.target();
    if (x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous() && y.is_contiguous() &&
        y.scalar_type() == at::kLong) {
      return counted(x, y);
    }
    const at::Tensor truth = classes_of(y);
    return pair_of(rows(x).argmax(-1).eq(truth).sum(), truth.ne(ignored).sum());
  }
  double value(const at::Tensor& all) const override { return share(all); }

 private:
  // The same in one pass; six small operations of LibTorch otherwise, in every step.
  static at::Tensor counted(const at::Tensor& logits, const at::Tensor& target) {
    const auto* row = logits.const_data_ptr<float>();
    const auto* truth = target.const_data_ptr<int64_t>();
    const int64_t classes = logits.size(-1);
    int64_t correct = 0, count = 0;
    for (int64_t n = 0; n < target.numel(); ++n, row += classes) {
      if (truth[n] == ignored) continue;
      ++count;
      correct += std::max_element(row, row + classes) - row == truth[n];
    }
    at::Tensor result = at::empty({2}, at::kDouble);
    auto* v = result.mutable_data_ptr<double>();
    v[0] = static_cast<double>(correct);
    v[1] = static_cast<double>(count);
    return result;
  }
};

class Top5 final : public Metric {
 public:
  using Options = NoOptions;
  explicit Top5(Options) {}
  std::string unit() const override { return "%"; }
  void check(const TargetSpec& target) const override {
    require_task(target, task::classification, "top5");
    if (target.outputs < 5)
      throw Error("top5 needs at least 5 classes, the data have " + std::to_string(target.outputs));
  }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor truth = classes_of(p.batch.target());
    const at::Tensor best = std::get<1>(rows(p.output()).topk(5, 1));
    return pair_of(best.eq(truth.unsqueeze(1)).sum(), truth.ne(ignored).sum());
  }
  double value(const at::Tensor& all) const override { return share(all); }
};

// The mean over the classes of the share of each that is found: classes that occur seldom count as much as others.
class BalancedAccuracy final : public Metric {
 public:
  using Options = NoOptions;
  explicit BalancedAccuracy(Options) {}
  std::string unit() const override { return "%"; }
  void check(const TargetSpec& target) const override {
    require_task(target, task::classification, "balanced_accuracy");
  }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor x = rows(p.output());
    const at::Tensor truth = classes_of(p.batch.target());
    const at::Tensor counts = truth.ne(ignored).to(at::kDouble);
    const at::Tensor correct = x.argmax(-1).eq(truth).to(at::kDouble);
    const at::Tensor sums = at::zeros({2, x.size(-1)}, counts.options());
    const at::Tensor place = truth.clamp_min(0);
    sums.select(0, 0).index_add_(0, place, correct);
    sums.select(0, 1).index_add_(0, place, counts);
    return sums;
  }
  double value(const at::Tensor& all) const override {
    const auto* v = all.const_data_ptr<double>();
    const int64_t classes = all.size(-1);
    double sum = 0, present = 0;
    for (int64_t c = 0; c < classes; ++c) {
      if (v[classes + c] == 0) continue;
      sum += v[c] / v[classes + c];
      ++present;
    }
    return present > 0 ? 100 * sum / present : 0;
  }
};

at::Tensor error_of(const Prediction& p) {
  return p.output().to(at::kDouble) - p.batch.target().to(at::kDouble);
}

at::Tensor count_of(const at::Tensor& x) {
  return at::zeros({}, x.options()).add_(static_cast<double>(x.numel()));
}

double mean_of(const at::Tensor& all) {
  const auto* v = all.const_data_ptr<double>();
  return v[1] > 0 ? v[0] / v[1] : 0;
}

class Mse final : public Metric {
 public:
  using Options = NoOptions;
  explicit Mse(Options) {}
  bool larger_is_better() const override { return false; }
  void check(const TargetSpec& target) const override { require_task(target, task::regression, "mse"); }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor e = error_of(p);
    return pair_of(e.square().sum(), count_of(e));
  }
  double value(const at::Tensor& all) const override { return mean_of(all); }
};

class Mae final : public Metric {
 public:
  using Options = NoOptions;
  explicit Mae(Options) {}
  bool larger_is_better() const override { return false; }
  void check(const TargetSpec& target) const override { require_task(target, task::regression, "mae"); }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor e = error_of(p);
    return pair_of(e.abs().sum(), count_of(e));
  }
  double value(const at::Tensor& all) const override { return mean_of(all); }
};

// The coefficient of determination, 1 - squared errors / squared deviations from the mean, averaged over the outputs.
class R2 final : public Metric {
 public:
  using Options = NoOptions;
  explicit R2(Options) {}
  void check(const TargetSpec& target) const override { require_task(target, task::regression, "r2"); }
  // For each output: squared errors, sum and squares of the targets around their first value, count.
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor e = rows(error_of(p));
    const at::Tensor y = rows(p.batch.target().to(at::kDouble));
    return at::stack({e.square().sum(0), y.sum(0), y.square().sum(0),
                      at::zeros({y.size(1)}, y.options()).add_(static_cast<double>(y.size(0)))});
  }
  double value(const at::Tensor& all) const override {
    const auto* v = all.const_data_ptr<double>();
    const int64_t outputs = all.size(1);
    double sum = 0;
    for (int64_t o = 0; o < outputs; ++o) {
      const double errors = v[o], total = v[outputs + o], squares = v[2 * outputs + o], n = v[3 * outputs + o];
      const double deviations = squares - total * total / n;
      // An output that never changes: found exactly or not, as scikit-learn has it.
      sum += deviations > 0 ? 1 - errors / deviations : errors > 0 ? 0 : 1;
    }
    return outputs > 0 ? sum / static_cast<double>(outputs) : 0;
  }
};

// For each label the mean, over the samples that have it, of the share of truth among all samples that score at least
// as high; then the mean over the labels that occur (macro average precision).
class MeanAveragePrecision final : public Metric {
 public:
  using Options = NoOptions;
  explicit MeanAveragePrecision(Options) {}
  std::string unit() const override { return "%"; }
  void check(const TargetSpec& target) const override {
    require_task(target, task::multilabel, "mean_average_precision");
  }
  bool concatenates() const override { return true; }
  // [samples, 2 labels]: scores, then truth.
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    return at::cat({rows(p.output()).to(at::kDouble), rows(p.batch.target()).to(at::kDouble)}, 1);
  }
  double value(const at::Tensor& all) const override {
    const int64_t n = all.size(0), labels = all.size(1) / 2;
    const at::Tensor columns = all.t().contiguous();
    double sum = 0, present = 0;
    std::vector<int64_t> order(static_cast<size_t>(n));
    for (int64_t l = 0; l < labels; ++l) {
      const auto* scores = columns.const_data_ptr<double>() + l * n;
      const auto* truth = columns.const_data_ptr<double>() + (labels + l) * n;
      const double positives = std::accumulate(truth, truth + n, 0.0);
      if (positives == 0) continue;
      std::iota(order.begin(), order.end(), 0);
      std::ranges::sort(order, [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
      double found = 0, average = 0;
      for (int64_t i = 0; i < n;) {
        // Equal scores are one step of the curve.
        int64_t end = i;
        double here = 0;
        for (; end < n && scores[order[static_cast<size_t>(end)]] == scores[order[static_cast<size_t>(i)]]; ++end)
          here += truth[order[static_cast<size_t>(end)]];
        found += here;
        average += here * found / static_cast<double>(end);
        i = end;
      }
      sum += average / positives;
      ++present;
    }
    return present > 0 ? 100 * sum / present : 0;
  }
};

}  // namespace

std::vector<Component> builtin_metrics() {
  std::vector<Component> all;
  all.push_back(component<Accuracy>("accuracy", "share of the samples whose class has the largest logit"));
  all.push_back(component<Top5>("top5", "share of the samples whose class is among the five largest logits"));
  all.push_back(component<BalancedAccuracy>("balanced_accuracy", "accuracy of each class, averaged over the classes"));
  all.push_back(component<Mse>("mse", "mean squared error over all outputs"));
  all.push_back(component<Mae>("mae", "mean absolute error over all outputs"));
  all.push_back(component<R2>("r2", "coefficient of determination, averaged over the outputs"));
  all.push_back(component<MeanAveragePrecision>("mean_average_precision", "average precision of each label, averaged"));
  return all;
}

std::vector<Value> default_metrics(const TargetSpec& target) {
  const auto of = [](std::initializer_list<const char*> names) {
    std::vector<Value> specs;
    for (const char* name : names) specs.push_back(Value::map({{"use", name}}));
    return specs;
  };
  if (target.task == task::classification && target.outputs >= classes_of_top5) return of({"accuracy", "top5"});
  if (target.task == task::classification) return of({"accuracy"});
  if (target.task == task::regression) return of({"mse", "mae", "r2"});
  if (target.task == task::multilabel) return of({"mean_average_precision"});
  std::vector<Value> brought = brought_for(Metric::kind, target.task);
  if (!brought.empty()) return brought;
  throw Error("the task '" + target.task + "' has no metrics of its own: name them (`metrics: [NAME]`)");
}

}  // namespace espalier
