// The losses that the SDK brings.
#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/flatten.h>
#include <ATen/ops/full.h>
#include <ATen/ops/huber_loss.h>
#include <ATen/ops/kl_div.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/loss.h"
#include "espalier/registry.h"
#include "tasks/builtin.h"

namespace espalier {

namespace {

// The class number that does not count, as PyTorch has it.
constexpr int64_t ignored = -100;

void require_task(const TargetSpec& target, const char* wanted, const char* what) {
  if (target.task == wanted) return;
  std::string remedy = ": write a loss for this task";
  for (const auto& [of, losses] : {std::pair(task::classification, "cross_entropy, focal or distillation"),
                                   std::pair(task::regression, "mse or huber"), std::pair(task::multilabel, "bce")}) {
    if (target.task == of) remedy = std::string(": write ") + losses;
  }
  throw Error(std::string(what) + " is a loss for " + wanted + ", and the task of the data is " + target.task + remedy);
}

// One row for each sample or node: [rows, outputs].
at::Tensor rows(const at::Tensor& x) {
  return x.dim() > 2 ? x.flatten(0, -2) : x;
}

// Outputs and targets of the same type and sizes, [batch, outputs].
at::Tensor compared(const Prediction& p, const char* what) {
  const at::Tensor& x = p.output();
  const at::Tensor& y = p.batch.target();
  if (x.sizes() != y.sizes()) {
    throw Error(std::string(what) + " needs one target for each output, got outputs " + to_string(x.sizes().vec()) +
                " and targets " + to_string(y.sizes().vec()));
  }
  return x.scalar_type() == y.scalar_type() ? x : x.to(y.scalar_type());
}

// The inverse of how often each class occurs, scaled so that all samples of the training part together weigh as much
// as without weights (scikit-learn's "balanced").
at::Tensor balanced_weights(const LossSetup& setup) {
  if (!setup.class_counts.defined()) throw Error("'class_weights: balanced' needs the class of each sample");
  const at::Tensor counts = setup.class_counts.to(at::kDouble);
  if (counts.eq(0).any().item<bool>()) {
    throw Error("'class_weights: balanced' needs every class in the training part, and class " +
                std::to_string(counts.eq(0).to(at::kByte).argmax().item<int64_t>()) + " has no sample");
  }
  return counts.sum() / (counts * static_cast<double>(counts.numel()));
}

class CrossEntropyLoss final : public Loss {
 public:
  struct Options {
    double label_smoothing = 0;
    std::string class_weights = "none";
    std::vector<double> class_weight_values;
    static void declare(Declare<Options>& p) {
      p("label_smoothing", &Options::label_smoothing, at_least(0), below(1),
        "Share of the target's probability that is spread over all classes in training.");
      p("class_weights", &Options::class_weights, one_of({"none", "balanced"}),
        "Weights of the classes; balanced: the inverse of how often each occurs in the training part.");
      p("class_weight_values", &Options::class_weight_values, at_least(0),
        "Weight of each class, in the order of their numbers, instead of 'class_weights'.");
    }
  };
  explicit CrossEntropyLoss(Options o) : o_(std::move(o)) {
    if (o_.class_weights != "none" && !o_.class_weight_values.empty())
      throw Error("'class_weights' and 'class_weight_values' exclude each other: leave one out");
  }
  void check(const TargetSpec& target) const override {
    require_task(target, task::classification, "cross_entropy");
    const size_t n = o_.class_weight_values.size();
    if (n > 0 && static_cast<int64_t>(n) != target.outputs) {
      throw Error("'class_weight_values' has " + std::to_string(n) + " numbers for " + std::to_string(target.outputs) +
                  " classes");
    }
    if (n > 0 && std::ranges::all_of(o_.class_weight_values, [](double w) { return w == 0; }))
      throw Error("'class_weight_values' are all 0: nothing would be learned");
  }
  void begin(const LossSetup& setup) override {
    weights_ = at::Tensor();
    if (o_.class_weights == "balanced") weights_ = balanced_weights(setup);
    if (!o_.class_weight_values.empty()) weights_ = at::tensor(o_.class_weight_values, at::kDouble);
    if (weights_.defined()) weights_ = weights_.to(setup.device, setup.dtype);
  }
  at::Tensor value(const Prediction& p) const override {
    const double smoothing = p.training ? o_.label_smoothing : 0;
    const at::Tensor& x = p.output();
    const at::Tensor& y = p.batch.target();
    const std::optional<at::Tensor> weights = weights_.defined() ? std::optional(weights_) : std::nullopt;
    if (y.is_floating_point()) {  // probabilities of classes, of mixed labels
      return at::cross_entropy_loss(x, y.to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat), weights,
                                    at::Reduction::Mean, ignored, smoothing);
    }
    if (y.dim() == 1 && !weights) return at::cross_entropy_loss(x, y, weights, at::Reduction::Mean, ignored, smoothing);
    // A batch of which nothing counts has no mean; it adds nothing.
    const at::Tensor sum =
        at::cross_entropy_loss(rows(x), y.flatten(), weights, at::Reduction::Sum, ignored, smoothing);
    const at::Tensor total = weight(p.batch).to(sum.scalar_type());
    return sum / at::where(total > 0, total, 1);
  }
  at::Tensor weight(const Batch& batch) const override {
    const at::Tensor& y = batch.target();
    if (y.is_floating_point() || (y.dim() == 1 && !weights_.defined())) return {};
    const at::Tensor counts = y.ne(ignored);
    if (!weights_.defined()) return counts.sum();
    return at::where(counts, weights_.index_select(0, y.clamp_min(0).flatten()).reshape(y.sizes()), 0).sum();
  }

 private:
  Options o_;
  at::Tensor weights_;  // [classes]; undefined: all 1
};

class MseLoss final : public Loss {
 public:
  using Options = NoOptions;
  explicit MseLoss(Options) {}
  void check(const TargetSpec& target) const override { require_task(target, task::regression, "mse"); }
  at::Tensor value(const Prediction& p) const override { return at::mse_loss(compared(p, "mse"), p.batch.target()); }
};

class HuberLoss final : public Loss {
 public:
  struct Options {
    double delta = 1;
    static void declare(Declare<Options>& p) {
      p("delta", &Options::delta, above(0), "Error from which on the loss grows linearly, not by the square.");
    }
  };
  explicit HuberLoss(Options o) : o_(o) {}
  void check(const TargetSpec& target) const override { require_task(target, task::regression, "huber"); }
  at::Tensor value(const Prediction& p) const override {
    return at::huber_loss(compared(p, "huber"), p.batch.target(), at::Reduction::Mean, o_.delta);
  }

 private:
  Options o_;
};

class BceLoss final : public Loss {
 public:
  struct Options {
    std::vector<double> positive_weights;
    static void declare(Declare<Options>& p) {
      p("positive_weights", &Options::positive_weights, above(0),
        "Weight of what a sample has, of each label: one number for all, or one for each. Left out: 1.");
    }
  };
  explicit BceLoss(Options o) : o_(std::move(o)) {}
  void check(const TargetSpec& target) const override {
    require_task(target, task::multilabel, "bce");
    const size_t n = o_.positive_weights.size();
    if (n > 1 && static_cast<int64_t>(n) != target.outputs) {
      throw Error("'positive_weights' has " + std::to_string(n) + " numbers for " + std::to_string(target.outputs) +
                  " labels");
    }
  }
  void begin(const LossSetup& setup) override {
    if (!o_.positive_weights.empty())
      weights_ = at::tensor(o_.positive_weights, at::kDouble).to(setup.device, setup.dtype);
  }
  at::Tensor value(const Prediction& p) const override {
    const std::optional<at::Tensor> weights = weights_.defined() ? std::optional(weights_) : std::nullopt;
    return at::binary_cross_entropy_with_logits(compared(p, "bce"), p.batch.target(), {}, weights);
  }

 private:
  Options o_;
  at::Tensor weights_;
};

// Lin et al. 2017: the cross-entropy of each sample times (1 - p)^gamma, with p the probability that the network gives
// to the truth; of several labels, the binary cross-entropy of each, with a share alpha for what is there.
class FocalLoss final : public Loss {
 public:
  struct Options {
    double gamma = 2;
    std::optional<double> alpha;
    static void declare(Declare<Options>& p) {
      p("gamma", &Options::gamma, at_least(0), "Power of what the probability of the truth lacks; 0: cross-entropy.");
      p("alpha", &Options::alpha, above(0), below(1),
        "Of several labels: weight of a label that is there; one that is not weighs 1 - alpha. Left out: both weigh "
        "1.");
    }
  };
  explicit FocalLoss(Options o) : o_(o) {}
  void check(const TargetSpec& target) const override {
    if (target.task == task::regression)
      throw Error("focal is a loss for classification and multilabel, not regression");
    if (o_.alpha && target.task != task::multilabel) throw Error("'alpha' of the focal loss is for several labels");
  }
  at::Tensor value(const Prediction& p) const override {
    const at::Tensor& y = p.batch.target();
    if (is_multilabel_) return of_labels(p);
    const at::Tensor x = rows(p.output());
    const at::Tensor log_p = (x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x).log_softmax(-1);
    if (y.is_floating_point()) {  // probabilities of classes
      const at::Tensor q = y.to(log_p.scalar_type());
      return -(q * (1 - log_p.exp()).pow(o_.gamma) * log_p).sum(-1).mean();
    }
    const at::Tensor flat = y.flatten();
    const at::Tensor counts = flat.ne(ignored);
    const at::Tensor of_truth = log_p.gather(1, flat.clamp_min(0).unsqueeze(1)).squeeze(1);
    const at::Tensor each = -(1 - of_truth.exp()).pow(o_.gamma) * of_truth;
    return at::where(counts, each, 0).sum() / counts.sum().clamp_min(1);
  }
  void begin(const LossSetup& setup) override { is_multilabel_ = setup.target.task == task::multilabel; }
  at::Tensor weight(const Batch& batch) const override {
    const at::Tensor& y = batch.target();
    return y.is_floating_point() || y.dim() == 1 ? at::Tensor() : y.ne(ignored).sum();
  }

 private:
  at::Tensor of_labels(const Prediction& p) const {
    const at::Tensor x = compared(p, "focal");
    const at::Tensor& y = p.batch.target();
    const at::Tensor each = at::binary_cross_entropy_with_logits(x, y, {}, {}, at::Reduction::None);
    const at::Tensor missing = 1 - at::exp(-each);  // 1 - the probability of the truth
    const at::Tensor focal = missing.pow(o_.gamma) * each;
    if (!o_.alpha) return focal.mean();
    return (focal * (y * *o_.alpha + (1 - y) * (1 - *o_.alpha))).mean();
  }
  Options o_;
  bool is_multilabel_ = false;
};

// Hinton et al. 2015: T^2 KL(teacher at temperature T || student at T), weighed against the loss of the targets. The
// factor T^2 keeps the sizes of the two gradients in proportion whatever T is. With `hard` the teacher's class is a
// target (Touvron et al. 2021, equation 3).
class DistillationLoss final : public Loss {
 public:
  struct Options {
    std::string teacher;
    std::string teacher_stage;
    double temperature = 4;
    double weight = 0.9;
    bool hard = false;
    std::string learner = "logits";
    std::string other = "logits";
    Nested loss;
    static void declare(Declare<Options>& p) {
      p("teacher", &Options::teacher, path(),
        "Folder of a finished run, or any folder with a graph.json and a model.safetensors, whose network teaches.");
      p("teacher_stage", &Options::teacher_stage,
        "Name of an earlier stage, whose network teaches as it was when the stage ended.");
      p("temperature", &Options::temperature, above(0), "Number by which both networks' logits are divided.");
      p("weight", &Options::weight, at_least(0), at_most(1),
        "Weight of the teacher's part; that of the targets has 1 - weight.");
      p("hard", &Options::hard,
        "Whether the class with the teacher's largest logit is learned by cross-entropy, as in DeiT, instead of the "
        "teacher's probabilities. The temperature does not count then.");
      p("learner", &Options::learner,
        "Output of the network that learns from the teacher in training, such as distillation of the backbones "
        "deit_*.");
      p("other", &Options::other,
        "Output of the network that is compared with the targets in training, such as class of the backbones "
        "deit_*. In evaluation it is always the logits.");
      p("loss", &Options::loss, of_kind("loss"), "Loss of the targets. Left out: that of the task.");
    }
  };
  explicit DistillationLoss(Options o) : o_(std::move(o)) {
    if (!o_.teacher.empty() && !o_.teacher_stage.empty())
      throw Error(
          "distillation has one teacher: give either 'teacher', a folder, or 'teacher_stage', an earlier stage");
    if (o_.loss.value.is_null()) return;
    loss_ = Registry::instance().create<Loss>(o_.loss.value);
    if (!loss_->networks().empty())
      throw Error("the loss of the targets learns from a network, too: one teacher is enough");
  }
  void check(const TargetSpec& target) const override {
    require_task(target, task::classification, "distillation");
    if (networks().empty())
      throw Error(
          "distillation needs a teacher: give either 'teacher', a folder, or 'teacher_stage', an earlier stage");
    if (loss_) loss_->check(target);
  }
  std::vector<std::string> networks() const override {
    const std::string& name = o_.teacher.empty() ? o_.teacher_stage : o_.teacher;
    return name.empty() ? std::vector<std::string>() : std::vector{name};
  }
  std::vector<std::string> outputs() const override {
    std::vector<std::string> all{"logits"};
    for (const std::string& name : {o_.learner, o_.other}) {
      if (std::ranges::find(all, name) == all.end()) all.push_back(name);
    }
    return all;
  }
  void begin(const LossSetup& setup) override {
    if (!loss_) loss_ = Registry::instance().create<Loss>(default_loss(setup.target));
    loss_->begin(setup);
    teacher_ = setup.networks.at(0);
    const std::vector<int64_t> sizes = teacher_->graph.sizes(teacher_->graph[teacher_->graph.output("logits")].shape);
    if (sizes.back() != setup.target.outputs) {
      throw Error("the teacher distinguishes " + std::to_string(sizes.back()) + " classes, the data have " +
                  std::to_string(setup.target.outputs));
    }
  }
  at::Tensor value(const Prediction& p) const override {
    if (!p.training) return loss_->value(p);
    const NamedTensors compared{{"logits", p.output(o_.other)}};
    const at::Tensor of_targets = loss_->value({.outputs = compared, .batch = p.batch, .training = true});
    if (o_.weight == 0) return of_targets;
    at::Tensor taught;
    {
      const c10::NoGradGuard no_grad;
      taught = espalier::run(teacher_->graph, teacher_->weights, p.batch.inputs, {"logits"})[0];
    }
    const auto log_probabilities = [&](const at::Tensor& logits) {
      const at::Tensor x = logits.scalar_type() == at::kBFloat16 ? logits.to(at::kFloat) : logits;
      return (rows(x) / o_.temperature).log_softmax(-1);
    };
    if (o_.hard) {
      const at::Tensor x = rows(p.output(o_.learner));
      const at::Tensor classes = rows(taught).argmax(-1);
      return (1 - o_.weight) * of_targets +
             o_.weight * at::cross_entropy_loss(x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x, classes);
    }
    const at::Tensor student = log_probabilities(p.output(o_.learner)), teacher = log_probabilities(taught);
    const at::Tensor divergence =
        at::kl_div(student, teacher, at::Reduction::Sum, /*log_target=*/true) / static_cast<double>(student.size(0));
    return (1 - o_.weight) * of_targets + o_.weight * o_.temperature * o_.temperature * divergence;
  }
  at::Tensor weight(const Batch& batch) const override { return loss_->weight(batch); }

 private:
  Options o_;
  std::unique_ptr<Loss> loss_;
  std::shared_ptr<const FrozenNetwork> teacher_;
};

}  // namespace

std::vector<Component> builtin_losses() {
  std::vector<Component> all;
  all.push_back(component<CrossEntropyLoss>("cross_entropy", "cross-entropy of the logits and the classes"));
  all.push_back(component<MseLoss>("mse", "mean squared error over all outputs"));
  all.push_back(component<HuberLoss>("huber", "squared error near zero, absolute error beyond (Huber 1964)"));
  all.push_back(component<BceLoss>("bce", "binary cross-entropy of each label"));
  all.push_back(component<FocalLoss>("focal", "cross-entropy that counts what is hard (Lin et al. 2017)"));
  all.push_back(component<DistillationLoss>("distillation", "learns from a teacher too (Hinton et al. 2015)"));
  return all;
}

std::vector<Value> brought_for(const char* kind, const std::string& task) {
  std::vector<Value> specs;
  for (const Registered* r : Registry::instance().all()) {
    const Component& c = r->component;
    if (c.kind == kind && std::ranges::find(c.provides, "default:" + task) != c.provides.end())
      specs.push_back(Value::map({{"use", c.name}}));
  }
  return specs;
}

Value default_loss(const TargetSpec& target) {
  const auto of = [](const char* name) { return Value::map({{"use", name}}); };
  if (target.task == task::classification) return of("cross_entropy");
  if (target.task == task::regression) return of("mse");
  if (target.task == task::multilabel) return of("bce");
  const std::vector<Value> brought = brought_for(Loss::kind, target.task);
  if (!brought.empty()) return brought.front();
  throw Error("the task '" + target.task + "' has no loss of its own: name one (`loss: {use: NAME}`)");
}

}  // namespace espalier
