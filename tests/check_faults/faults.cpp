// Sixty components with one deliberate fault each, ten of each of six kinds: scripts/check-faults counts how many of
// them `espalier check` finds. The name of a component says what is wrong with it.
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand_like.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/dataset.h>
#include <espalier/error.h>
#include <espalier/loss.h>
#include <espalier/onnx.h>
#include <espalier/operation.h>
#include <espalier/optimizer.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>

namespace espalier {
namespace {

// ---- operations: x times two ----

enum class OperationFault {
  half_gradient,
  adds_one,
  first_sample,
  python,
  onnx,
  smaller_output,
  options,
  in_place,
  other_type,
  random
};

template <OperationFault fault>
class FaultyOperation final : public Operation {
 public:
  using Options = NoOptions;
  explicit FaultyOperation(Options) {}
  static constexpr const char* names[] = {
      "op_half_gradient",  "op_adds_one",        "op_first_sample",     "op_wrong_python", "op_wrong_onnx",
      "op_smaller_output", "op_forgets_options", "op_writes_its_input", "op_other_type",   "op_random"};
  static constexpr const char* of_this = names[static_cast<int>(fault)];
  std::string type() const override { return fault == OperationFault::options ? "relu" : of_this; }
  Value options() const override { return Value::map(); }
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    switch (fault) {
      case OperationFault::half_gradient:
        return {x + x.detach()};
      case OperationFault::adds_one:
        return {x * 2 + 1};
      case OperationFault::first_sample:
        return {x * 0 + x.slice(0, 0, 1) * 2};
      case OperationFault::smaller_output:
        return {x.slice(1, 0, 1) * 2};
      case OperationFault::in_place:
        return {at::Tensor(x).mul_(2)};
      case OperationFault::other_type:
        return {(x * 2).to(x.scalar_type() == at::kDouble ? at::kFloat : at::kDouble)};
      case OperationFault::random:
        return {x * 2 + 1e-3 * at::rand_like(x)};
      default:
        return {x * 2};
    }
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {fault == OperationFault::python ? "({0} * 3.0)" : "({0} * 2.0)"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add(fault == OperationFault::onnx ? "Add" : "Mul", {to.input(0), to.constant(at::full({}, 2.0))})};
  }
};

// ---- regularizers: the sum of squares ----

enum class RegularizerFault {
  half_gradient,
  sets_gradient,
  sets_value,
  negative,
  nan_at_zero,
  stale_after_edit,
  changes_weights,
  counts_calls,
  other_in_float,
  proximal_at_zero
};

template <RegularizerFault fault>
class FaultyRegularizer final : public Regularizer {
 public:
  using Options = NoOptions;
  explicit FaultyRegularizer(Options) {}
  void attach(const Graph& graph, Weights& weights) override {
    if (fault == RegularizerFault::stale_after_edit && !first_.empty()) return;
    selected_ = Selector("weights").match(graph);
    first_.clear();
    for (const ParamId p : selected_) first_.push_back(weights[p].detach().clone());
  }
  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    const c10::NoGradGuard no_grad;
    ++calls_;
    if (fault == RegularizerFault::sets_value) value.zero_();
    size_t i = 0;
    for (const ParamId p : selected_) {
      const at::Tensor w = weights[p].detach();
      const at::Tensor g = weights.gradient(p);
      double factor = fault == RegularizerFault::half_gradient ? 1 : 2;
      if (fault == RegularizerFault::sets_gradient) g.zero_();
      if (fault == RegularizerFault::other_in_float && w.scalar_type() == at::kFloat) factor = 2.1;
      if (fault == RegularizerFault::nan_at_zero) {
        const at::Tensor norm = w.norm();
        g.add_(w / norm);
        value.add_(norm.to(at::kDouble));
      } else if (fault == RegularizerFault::stale_after_edit) {
        value.add_(first_[i].square().sum(at::kDouble));
        g.add_(w, factor);
      } else {
        g.add_(w, fault == RegularizerFault::negative ? -factor : factor);
        value.add_(w.square().sum(at::kDouble), fault == RegularizerFault::negative ? -1 : 1);
      }
      if (fault == RegularizerFault::changes_weights) w.mul_(0.999);
      ++i;
    }
    if (fault == RegularizerFault::counts_calls) value.add_(1e-3 * static_cast<double>(calls_));
  }
  void after_update(const Graph&, Weights& weights, const LearningRates&) override {
    if (fault == RegularizerFault::proximal_at_zero) weights.bank(Role::weight).values.flat().mul_(0.99);
  }

 private:
  std::vector<ParamId> selected_;
  std::vector<at::Tensor> first_;
  int64_t calls_ = 0;
};

// ---- optimizers: gradient descent with momentum ----

enum class OptimizerFault {
  hidden_state,
  ignores_selection,
  climbs,
  own_rate,
  writes_gaps,
  other_in_float,
  hidden_counter,
  random,
  first_only,
  changes_gradients
};

template <OptimizerFault fault>
class FaultyOptimizer final : public Optimizer {
 public:
  using Options = NoOptions;
  explicit FaultyOptimizer(Options) {}
  double learning_rate() const override { return 0.05; }
  void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) override {
    selected_.clear();
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const ParamId p{static_cast<int32_t>(i)};
      if (graph[p].role == Role::buffer) continue;
      const std::vector<ParamId> chosen = on.match(graph);
      if (fault == OptimizerFault::ignores_selection || on.empty() || std::ranges::find(chosen, p) != chosen.end())
        selected_.push_back(p);
    }
    if (fault == OptimizerFault::first_only) selected_.resize(1);
    state_ = label + ".momentum";
    if (fault != OptimizerFault::hidden_state) {
      weights.add_state(graph, {.name = state_});
    } else if (hidden_.size() != graph.parameters().size()) {
      hidden_.clear();
      for (size_t i = 0; i < graph.parameters().size(); ++i)
        hidden_.push_back(at::zeros_like(weights[{static_cast<int32_t>(i)}].detach()));
    }
  }
  void step(Weights& weights, double rate) override {
    const c10::NoGradGuard no_grad;
    ++steps_;
    double lr = fault == OptimizerFault::own_rate ? learning_rate() : rate;
    if (fault == OptimizerFault::climbs) lr = -lr;
    if (fault == OptimizerFault::other_in_float && weights.dtype() == at::kFloat) lr *= 1.1;
    if (fault == OptimizerFault::hidden_counter) lr /= static_cast<double>(steps_);
    for (const ParamId p : selected_) {
      const at::Tensor g = weights.gradient(p);
      const at::Tensor m =
          fault == OptimizerFault::hidden_state ? hidden_[static_cast<size_t>(p.id)] : weights.state(state_, p);
      m.mul_(0.9).add_(g);
      const at::Tensor w = weights[p].detach();
      w.sub_(m, lr);
      if (fault == OptimizerFault::random) w.add_(at::rand_like(w), 1e-3 * lr);
      if (fault == OptimizerFault::changes_gradients) w.sub_(g.mul_(2), lr);
    }
    if (fault == OptimizerFault::writes_gaps) weights.bank(Role::weight).values.flat().add_(1e-3 * lr);
  }

 private:
  std::vector<ParamId> selected_;
  std::vector<at::Tensor> hidden_;
  std::string state_;
  int64_t steps_ = 0;
};

// ---- controllers ----

enum class ControllerFault {
  forgets_epochs,
  forgets_steps,
  leaves_average,
  resumes_without_following,
  clock,
  not_a_number,
  stale_axis,
  keeps_a_batch,
  writes_buffers,
  throws_at_the_end
};

template <ControllerFault fault>
class FaultyController final : public Controller {
 public:
  using Options = NoOptions;
  explicit FaultyController(Options) {}
  void stage_begin(Run& run) override {
    if (fault == ControllerFault::resumes_without_following) follow(run);
    if (fault == ControllerFault::stale_axis && !run.graph().axes({}).empty()) axis_ = run.graph().axes({}).front();
  }
  Value save() const override {
    return fault == ControllerFault::forgets_steps ? Value::map({{"epochs", epochs_}}) : Value();
  }
  void resume(Run&, const Value& saved) override {
    if (fault == ControllerFault::forgets_steps) epochs_ = saved.at("epochs").as_int();
  }
  void step_end(Run& run) override {
    ++steps_;
    if (average_) average_->copy_from(run.weights());
    if (fault == ControllerFault::forgets_steps && steps_ == 4) run.metric("fourth", static_cast<double>(run.step()));
    if (fault == ControllerFault::forgets_steps) run.metric("steps", static_cast<double>(steps_));
    if (fault == ControllerFault::clock)
      run.metric("now", static_cast<double>(std::chrono::steady_clock::now().time_since_epoch().count()));
    if (fault == ControllerFault::not_a_number)
      run.weights().bank(Role::weight).values.view(0).fill_(std::numeric_limits<double>::quiet_NaN());
  }
  void step(Run& run, const Batch& batch) override {
    if (fault == ControllerFault::keeps_a_batch && last_.size() > 0) run.train_step(last_);
    if (fault == ControllerFault::keeps_a_batch) last_ = batch;
    run.train_step(batch);
  }
  void evaluation_end(Run& run) override {
    if (fault == ControllerFault::leaves_average) run.weights().bank(Role::weight).values.view(0).mul_(0.5);
  }
  void evaluation_begin(Run& run) override {
    if (fault != ControllerFault::writes_buffers) return;
    const at::Tensor buffers = run.weights().bank(Role::buffer).values.flat();
    if (buffers.numel() > 0) buffers.mul_(0.5);
  }
  void epoch_end(Run& run) override {
    ++epochs_;
    if (fault == ControllerFault::forgets_epochs) run.metric("epochs", static_cast<double>(epochs_));
    if (fault != ControllerFault::stale_axis) return;
    // Two changes of one width, the second by positions from before the first.
    const int64_t size = run.graph()[axis_].size;
    if (size < 2) return;
    run.edit(shrink(run.graph(), axis_, {0}));
    run.edit(shrink(run.graph(), axis_, {0, size - 1}));
  }
  void stage_end(Run&) override {
    if (fault == ControllerFault::throws_at_the_end) throw std::out_of_range("vector");
  }

 private:
  void follow(Run& run) {
    average_ = std::make_shared<Weights>(run.graph(), run.weights().dtype(), run.weights().device());
    run.follow("average", average_);
  }
  int64_t epochs_ = 0, steps_ = 0;
  std::shared_ptr<Weights> average_;
  Axis axis_;
  Batch last_;
};

// ---- data sets: ten images of two classes ----

enum class DatasetFault {
  class_too_large,
  other_size,
  any_part,
  random,
  small_integers,
  fewer_targets,
  no_deviation,
  means,
  class_names,
  order_of_reads
};

template <DatasetFault fault>
class FaultyDataset final : public Dataset {
 public:
  using Options = NoOptions;
  explicit FaultyDataset(Options) {}
  DatasetInfo info() const override {
    DatasetInfo i{.input = {.channels = 1, .height = 4, .width = 4},
                  .target = {.outputs = 2},
                  .classes = {},
                  .mean = {0.5},
                  .deviation = {0.25}};
    if (fault == DatasetFault::no_deviation) i.deviation = {0};
    if (fault == DatasetFault::means) i.mean = {0.5, 0.5, 0.5};
    if (fault == DatasetFault::class_names) i.classes = {"only one"};
    return i;
  }
  Split load(const std::string& part, const DataPaths&) const override {
    if (fault != DatasetFault::any_part && part != "train" && part != "test")
      throw InputError("", "there is no such part");
    const int64_t side = fault == DatasetFault::other_size ? 5 : 4;
    at::Tensor images = at::arange(10 * side * side).remainder(251).reshape({10, 1, side, side}).to(at::kByte);
    if (fault == DatasetFault::random) images = at::randint(256, {10, 1, 4, 4}, at::kByte);
    at::Tensor target = at::arange(10).remainder(fault == DatasetFault::class_too_large ? 3 : 2);
    if (fault == DatasetFault::small_integers) target = target.to(at::kInt);
    if (fault == DatasetFault::fewer_targets) target = target.slice(0, 0, 9);
    if (fault == DatasetFault::order_of_reads)
      return {.inputs = {}, .targets = {{"target", target}}, .samples = std::make_shared<Counted>()};
    return {.inputs = {{"input", images}}, .targets = {{"target", target}}};
  }

 private:
  class Counted final : public Samples {
   public:
    int64_t size() const override { return 10; }
    void read(int64_t, bool, RandomKey, uint8_t* out) const override { std::fill_n(out, 16, ++reads_); }

   private:
    mutable std::atomic<uint8_t> reads_ = 0;
  };
};

// ---- losses: cross-entropy ----

enum class LossFault {
  sum,
  half_gradient,
  not_a_scalar,
  infinite,
  random,
  wrong_weight,
  first_target,
  counts_calls,
  detached,
  writes_logits
};

template <LossFault fault>
class FaultyLoss final : public Loss {
 public:
  using Options = NoOptions;
  explicit FaultyLoss(Options) {}
  void check(const TargetSpec& target) const override {
    if (target.task != task::classification) throw Error("for classification");
  }
  at::Tensor value(const Prediction& p) const override {
    at::Tensor logits = p.output();
    at::Tensor target = p.batch.target();
    if (fault == LossFault::writes_logits) logits.detach().add_(0.01 * logits.detach().abs());
    if (fault == LossFault::half_gradient) logits = (logits + logits.detach()) / 2;
    if (fault == LossFault::detached) logits = logits.detach();
    if (fault == LossFault::first_target) target = at::zeros_like(target) + target.flatten()[0];
    const int64_t reduction = fault == LossFault::sum            ? at::Reduction::Sum
                              : fault == LossFault::not_a_scalar ? at::Reduction::None
                                                                 : at::Reduction::Mean;
    at::Tensor loss = at::cross_entropy_loss(logits, target, {}, reduction);
    if (fault == LossFault::infinite) loss = loss / (loss - loss);
    if (fault == LossFault::random) loss = loss + 1e-3 * at::rand_like(loss);
    if (fault == LossFault::counts_calls) loss = loss + 1e-3 * static_cast<double>(++calls_);
    return loss;
  }
  at::Tensor weight(const Batch&) const override {
    return fault == LossFault::wrong_weight ? at::full({}, 1.0, at::kDouble) : at::Tensor();
  }

 private:
  mutable int64_t calls_ = 0;
};

// The ten of a kind.
template <template <auto> class T, class Fault, size_t... i>
void add_all(std::vector<Component>& all, const char* const (&names)[10], std::index_sequence<i...>) {
  (all.push_back(component<T<static_cast<Fault>(i)>>(names[i], "has a fault")), ...);
}

const PluginDescriptor& descriptor() {
  static const PluginDescriptor made = [] {
    PluginDescriptor d{"check_faults", "1.0.0", {}};
    constexpr auto ten = std::make_index_sequence<10>();
    add_all<FaultyOperation, OperationFault>(d.components, FaultyOperation<OperationFault::random>::names, ten);
    add_all<FaultyRegularizer, RegularizerFault>(
        d.components,
        {"reg_half_gradient", "reg_sets_gradient", "reg_sets_value", "reg_negative", "reg_nan_at_zero",
         "reg_stale_after_edit", "reg_changes_weights", "reg_counts_calls", "reg_other_in_float",
         "reg_proximal_at_zero"},
        ten);
    add_all<FaultyOptimizer, OptimizerFault>(
        d.components,
        {"opt_hidden_state", "opt_ignores_selection", "opt_climbs", "opt_own_rate", "opt_writes_gaps",
         "opt_other_in_float", "opt_hidden_counter", "opt_random", "opt_first_only", "opt_changes_gradients"},
        ten);
    add_all<FaultyController, ControllerFault>(
        d.components,
        {"ctl_forgets_epochs", "ctl_forgets_steps", "ctl_leaves_average", "ctl_resumes_without_following", "ctl_clock",
         "ctl_not_a_number", "ctl_stale_axis", "ctl_keeps_a_batch", "ctl_writes_buffers", "ctl_throws_at_the_end"},
        ten);
    add_all<FaultyDataset, DatasetFault>(
        d.components,
        {"data_class_too_large", "data_other_size", "data_any_part", "data_random", "data_small_integers",
         "data_fewer_targets", "data_no_deviation", "data_means", "data_class_names", "data_order_of_reads"},
        ten);
    add_all<FaultyLoss, LossFault>(
        d.components,
        {"loss_sum", "loss_half_gradient", "loss_not_a_scalar", "loss_infinite", "loss_random", "loss_wrong_weight",
         "loss_first_target", "loss_counts_calls", "loss_detached", "loss_writes_logits"},
        ten);
    return d;
  }();
  return made;
}

}  // namespace
}  // namespace espalier

// What ESPALIER_PLUGIN writes, with a list that is made by a loop.
extern "C" {
__attribute__((section(".espalier.stamp"), used,
               visibility("default"))) extern constexpr ::espalier::Stamp espalier_stamp =
    ::espalier::make_stamp("check_faults", "1.0.0");
ESPALIER_API const ::espalier::PluginDescriptor* espalier_plugin() {
  return &::espalier::descriptor();
}
}
