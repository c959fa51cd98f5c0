#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <c10/core/GradMode.h>
#include <c10/util/irange.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"

namespace espalier::testkit {

namespace {

at::Tensor cross_entropy_of(const at::Tensor& logits, const Batch& batch) {
  return at::cross_entropy_loss(logits.flatten(0, -2), batch.target().flatten());
}

}  // namespace

TestRun::TestRun(Graph graph, uint64_t seed)
    : graph_(std::move(graph)), key_(seed), weights_(graph_, at::kDouble, at::kCPU) {
  weights_.initialize(graph_, key_);
}

TestRun::~TestRun() = default;

void TestRun::optimize_with(const std::string& spec) {
  const Value v = from_json(spec);
  optimize_with(Registry::instance().create<Optimizer>(v), v.at("use").as_string());
}

void TestRun::optimize_with(std::unique_ptr<Optimizer> optimizer, const std::string& label) {
  optimizers_.emplace_back(label, std::move(optimizer));
  attach();
}

void TestRun::regularize_with(const std::string& spec) {
  regularizers_.push_back(Registry::instance().create<Regularizer>(from_json(spec)));
  attach();
}

// Layouts of arenas change with edits, so whoever works on arenas looks at them again.
void TestRun::attach() {
  const auto attach_to = [&](Weights& w) {
    for (const auto& [label, o] : optimizers_) o->attach(graph_, w, {}, label);
    for (const auto& r : regularizers_) r->attach(graph_, w);
  };
  attach_to(weights_);
  for (const auto& [name, f] : followers_) {
    if (const auto w = f.weights.lock(); w && f.optimized) attach_to(*w);
  }
}

std::map<std::string, std::shared_ptr<Weights>> TestRun::followers() const {
  std::map<std::string, std::shared_ptr<Weights>> alive;
  for (const auto& [name, f] : followers_) {
    if (auto w = f.weights.lock()) alive.emplace(name, std::move(w));
  }
  return alive;
}

void TestRun::follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) {
  // Edits act once on what is followed, also if it is said again.
  std::erase_if(followers_, [&](const auto& f) {
    const auto alive = f.second.weights.lock();
    return !alive || alive == weights;
  });
  followers_.emplace(name, Follower{weights, optimized});
  attach();
}

void TestRun::edit(const Edits& edits) {
  std::vector<std::shared_ptr<Weights>> alive;
  std::vector<Weights*> all{&weights_};
  for (const auto& [name, f] : followers_) {
    if (auto w = f.weights.lock()) alive.push_back(std::move(w)), all.push_back(alive.back().get());
  }
  apply(graph_, all, edits);
  attach();
  edits_ += static_cast<int64_t>(edits.size());
}

void TestRun::train(Controller& controller, const std::function<void(int64_t done)>& between) {
  edit(controller.begin(graph_));
  at_epoch = at_step = 0;
  controller.stage_begin(*this);
  go_on(controller, 0, between);
}

void TestRun::go_on(Controller& controller, int64_t done, const std::function<void(int64_t done)>& between) {
  while (done < of_epochs * of_steps && !(ended && done % of_steps == 0)) {
    at_epoch = done / of_steps, at_step = done % of_steps;
    if (at_step == 0) controller.epoch_begin(*this);
    step_with(controller, draw("train", 0));
    controller.step_end(*this);
    ++done;
    if (between) between(done);
    if (done % of_steps != 0) continue;
    evaluate_around(controller);
    controller.epoch_end(*this);
  }
  controller.stage_end(*this);
}

void TestRun::step_with(Controller& controller, const Batch& batch) {
  of_step_ = &controller;
  try {
    controller.step(*this, batch);
  } catch (...) {
    of_step_ = nullptr;
    throw;
  }
  of_step_ = nullptr;
}

void TestRun::evaluate_around(Controller& controller) {
  controller.evaluation_begin(*this);
  evaluate("test");
  controller.evaluation_end(*this);
}

void TestRun::train_step(const Batch& batch) {
  if (optimizers_.empty() && descent == 0) return;
  weights_.zero_gradients();
  add_gradients(batch, weights_);
  add_regularizers(weights_);
  update(weights_);
}

void TestRun::add_gradients(const Batch& batch, Weights& weights, const GradientPass& of) {
  const Pass pass{.training = true, .key = key(), .statistics = of.statistics};
  if (of.loss != "loss") {
    espalier::run(graph_, weights, batch.inputs, {of.loss}, pass)[0].backward();
  } else {
    cross_entropy_of(espalier::run(graph_, weights, batch.inputs, {"logits"}, pass)[0], batch).backward();
  }
  if (of_step_) of_step_->backward_end(*this, weights);
}

void TestRun::add_regularizers(Weights& weights) {
  at::Tensor value = uniform({}, 0, 0, RandomKey());
  for (const auto& r : regularizers_) r->add(graph_, weights, value);
}

void TestRun::update(Weights& weights, const std::vector<Role>& roles) {
  const c10::NoGradGuard no_grad;
  if (of_step_) of_step_->update_begin(*this, weights);
  for (const auto& [label, o] : optimizers_) o->step(weights, o->learning_rate());
  std::vector<double> rates(graph_.parameters().size(), 0);
  for (const Role role : roles) {
    const Bank& b = weights.bank(role);
    if (optimizers_.empty() && descent > 0 && b.values.numel() > 0)
      at::Tensor(b.values.flat()).sub_(b.gradients.flat(), descent);
    for (const auto i : c10::irange(rates.size())) {
      if (graph_[ParamId{static_cast<int32_t>(i)}].role != role) continue;
      rates[i] = optimizers_.empty() ? descent : optimizers_.front().second->learning_rate();
    }
  }
  for (const auto& r : regularizers_) r->after_update(graph_, weights, LearningRates(rates));
  if (of_step_) of_step_->update_end(*this, weights);
}

Batch TestRun::made_up(const RandomKey& key) const {
  Batch batch;
  for (const Port& port : graph_.inputs()) {
    std::vector<int64_t> sizes = graph_.sizes(graph_[port.edge].shape);
    sizes.insert(sizes.begin(), samples);
    batch.inputs.emplace_back(port.name, normal(sizes, 1, key.with(port.name)).to(weights_.dtype()));
  }
  // One class of each sample, or of each node of a graph.
  int64_t each = 1;
  for (const Port& port : graph_.outputs()) {
    if (port.name != "logits") continue;
    const std::vector<int64_t> sizes = graph_.sizes(graph_[port.edge].shape);
    for (const auto d : c10::irange(sizes.size() - 1)) each *= sizes[d];
  }
  batch.targets.emplace_back("target", target_of(classes, samples * each, key.value()));
  return batch;
}

Batch TestRun::draw(std::string_view part, int64_t n) {
  if (batches) return batches(n);
  if (classes == 0) throw Error("a test run has no data to draw from: set `batches`, or `classes` for made-up ones");
  return made_up(key().with(part).with(static_cast<uint64_t>(n)));
}

Evaluation TestRun::evaluate(std::string_view part, const Weights& weights) {
  if (const auto it = evaluations.find(part); it != evaluations.end()) return it->second;
  if (classes == 0) return {};
  const c10::NoGradGuard no_grad;
  const Batch batch = made_up(key_.with(part));
  const at::Tensor logits = espalier::run(graph_, weights, batch.inputs, {"logits"})[0];
  const double right =
      logits.flatten(0, -2).argmax(-1).eq(batch.target().flatten()).to(at::kDouble).mean().item<double>();
  return {.loss = cross_entropy_of(logits, batch).item<double>(),
          .metrics = {{"accuracy", 100 * right}},
          .score = 100 * right};
}

at::Tensor TestRun::loss(const Batch& batch, const Observer& observe) {
  return cross_entropy_of(espalier::run(graph_, weights_, batch.inputs, {"logits"}, {}, observe)[0], batch);
}

const Artefact& TestRun::artefact(const std::string& name) const {
  const auto it = artefacts.find(name);
  if (it == artefacts.end()) throw Error("no stage published '" + name + "'");
  return it->second;
}

}  // namespace espalier::testkit
