#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <espalier/execute.h>
#include <espalier/optimizer.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {

// A run for tests of searches: float64 on the CPU, the cross-entropy or an output of the graph as a loss, an optimizer
// for the weights and one for the architecture parameters, and regularizers.
class SearchRun final : public Run {
 public:
  // weights, architecture: specs of optimizers, as JSON.
  SearchRun(Graph graph, const std::string& weights, const std::string& architecture)
      : graph_(std::move(graph)), weights_(graph_, at::kDouble, at::kCPU) {
    weights_.initialize(graph_, RandomKey(3));
    optimizers_.push_back({make<Optimizer>(weights), Selector({"all", "!architecture"}), Role::weight, "weights"});
    optimizers_.push_back({make<Optimizer>(architecture), Selector("architecture"), Role::architecture, "alpha"});
    attach(weights_);
  }
  template <class T>
  static std::unique_ptr<T> make(const std::string& spec) {
    return Registry::instance().create<T>(from_json(spec));
  }
  // What draw() gives, the validation batch of the step.
  std::function<Batch(int64_t step)> validation;
  std::vector<std::unique_ptr<Regularizer>> regularizers;
  // How often a batch went through the network.
  int64_t passes = 0;
  int64_t at_step = 0;
  Value derived = Value::map();  // what derive() gives
  int64_t of_epochs = 1;         // what epochs() returns
  bool ended = false;            // whether end_stage() was called
  std::map<std::string, Value> published;
  std::map<std::string, double> rates;  // what learning_rate() gives instead of that of the optimizer, by parameter
  // Does a step with a batch.
  void step(Controller& controller, const Batch& batch) {
    controller.step(*this, batch);
    controller.step_end(*this);
    ++at_step;
  }
  const std::map<std::string, double>& metrics() const { return metrics_; }
  std::shared_ptr<Weights> follower() const { return follower_.lock(); }

  const Graph& graph() const override { return graph_; }
  Weights& weights() override { return weights_; }
  const std::string& stage() const override { return stage_; }
  int64_t epochs() const override { return of_epochs; }
  void end_stage() override { ended = true; }
  int64_t epoch() const override { return 0; }
  int64_t step() const override { return at_step; }
  RandomKey key() const override { return RandomKey(4).with(static_cast<uint64_t>(at_step)); }
  using Run::edit;
  void edit(const Edits& edits) override {
    std::vector<Weights*> all{&weights_};
    const auto follower = follower_.lock();
    if (follower) all.push_back(follower.get());
    apply(graph_, all, edits);
    for (Weights* w : all) attach(*w);
  }
  using Run::follow;
  void follow(const std::string&, const std::shared_ptr<Weights>& weights, bool) override {
    follower_ = weights;
    attach(*weights);
  }
  void train_step(const Batch& batch) override {
    weights_.zero_gradients();
    add_gradients(batch, weights_, "loss");
    update(weights_, {Role::weight, Role::architecture});
  }
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, const GradientPass& of) override {
    ++passes;
    const Pass pass{.training = true, .key = key(), .statistics = of.statistics};
    if (of.loss != "loss") return espalier::run(graph_, weights, batch.inputs, {of.loss}, pass)[0].backward();
    testkit::cross_entropy(graph_, weights, batch.input(), batch.target(), pass).backward();
  }
  void add_regularizers(Weights& weights) override {
    at::Tensor value = at::zeros({}, at::kDouble);
    for (const auto& r : regularizers) {
      r->attach(graph_, weights);
      r->add(graph_, weights, value);
    }
  }
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override {
    const c10::NoGradGuard no_grad;
    for (const Updates& u : optimizers_) {
      if (std::ranges::find(roles, u.role) != roles.end()) u.optimizer->step(weights, u.optimizer->learning_rate());
    }
  }
  Batch draw(std::string_view, int64_t) override { return validation(at_step); }
  using Run::evaluate;
  Evaluation evaluate(std::string_view, const Weights&) override { return {}; }
  at::Tensor loss(const Batch& batch, const Observer&) override {
    return testkit::cross_entropy(graph_, weights_, batch.input(), batch.target());
  }
  double learning_rate(ParamId p) const override {
    if (const auto rate = rates.find(graph_[p].name); rate != rates.end()) return rate->second;
    for (const Updates& u : optimizers_) {
      if (u.role == graph_[p].role) return u.optimizer->learning_rate();
    }
    return 0;
  }
  int64_t batch_size() const override { return 1; }
  bool clipped() const override { return false; }
  void publish(const std::string& name, const Artefact& artefact) override { published[name] = artefact.value; }
  const Artefact& artefact(const std::string& name) const override { throw Error("no artefact " + name); }
  Value derive() const override {
    if (derived.is_null()) throw Error("the backbone derives no network");
    return derived;
  }
  void metric(const std::string& name, double value) override { metrics_[name] = value; }
  void record(const std::string&, const NamedTensors&) override {}
  void note(const std::string&) override {}

 private:
  struct Updates {
    std::unique_ptr<Optimizer> optimizer;
    Selector on;
    Role role;
    std::string label;
  };
  void attach(Weights& weights) {
    for (const Updates& u : optimizers_) u.optimizer->attach(graph_, weights, u.on, u.label);
  }

  Graph graph_;
  Weights weights_;
  std::vector<Updates> optimizers_;
  std::weak_ptr<Weights> follower_;
  std::map<std::string, double> metrics_;
  std::string stage_ = "search";
};

}  // namespace espalier
