#include "train/stage_parts.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"

namespace espalier {

void StageParts::make(const StageSection& section, const std::function<Value(const Value&)>& known) {
  section_ = &section;
  optimizers_.clear();
  for (const OptimizerSection& o : section.optimizers) optimizers_.push_back(Made<Optimizer>::make(known(o.spec)));
  regularizers_.clear();
  penalties_looked_at_ = false;
  for (const Value& r : section.regularizers) regularizers_.push_back(Made<Regularizer>::make(known(r)));
  controller_ = Made<Controller>::make(known(section.controller));
  schedule_ = Registry::instance().create<Schedule>(known(section.schedule));
  clip_factor_ = at::Tensor();
}

void StageParts::attach(const Graph& graph, Weights& weights) {
  optimized_.clear();
  optimizer_of_.assign(graph.parameters().size(), -1);
  for (size_t i = 0; i < section_->optimizers.size(); ++i) {
    std::vector<Role>& roles = optimized_.emplace_back();
    for (const ParamId p : section_->optimizers[i].on.match(graph)) {
      if (std::ranges::find(roles, graph[p].role) == roles.end()) roles.push_back(graph[p].role);
      int& of = optimizer_of_[static_cast<size_t>(p.id)];
      if (of < 0) of = static_cast<int>(i);
    }
  }
  attach_optimizers(graph, weights);
  for (const auto& r : regularizers_) r.call([&](Regularizer& regularizer) { regularizer.attach(graph, weights); });
}

void StageParts::attach_optimizers(const Graph& graph, Weights& weights) const {
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    const OptimizerSection& o = section_->optimizers[i];
    const std::string label = name_of(o.spec, "optimizer") + (i == 0 ? "" : std::to_string(i + 1));
    optimizers_[i].call([&](Optimizer& optimizer) { optimizer.attach(graph, weights, o.on, label); });
  }
}

double StageParts::learning_rate() const {
  return optimizers_.empty() ? 0 : optimizers_.front().object->learning_rate();
}

LearningRates StageParts::rates(const Graph& graph, const std::vector<Role>& roles, double lr_factor) const {
  std::vector<double> rates(graph.parameters().size(), 0.0);
  for (size_t p = 0; p < rates.size(); ++p) {
    const Parameter& parameter = graph.parameters()[p];
    const int optimizer = parameter.role == Role::buffer ? -1 : optimizer_of_[p];
    if (optimizer < 0 || std::ranges::find(roles, parameter.role) == roles.end()) continue;
    rates[p] = optimizers_[static_cast<size_t>(optimizer)].object->learning_rate() * lr_factor;
  }
  return LearningRates(std::move(rates));
}

void StageParts::add_regularizers(const Graph& graph, Weights& weights, at::Tensor& penalty,
                                  const std::function<void(const std::string&)>& note) {
  for (const auto& r : regularizers_) {
    const double before = penalties_looked_at_ ? 0 : penalty.item<double>();
    r.call([&](Regularizer& regularizer) { regularizer.add(graph, weights, penalty); });
    if (!penalties_looked_at_ && penalty.item<double>() == before) {
      note("the penalty of '" + r.component->component.name +
           "' is exactly zero in the stage's first step: its weight is 0, or nothing that it names counts");
    }
  }
  penalties_looked_at_ = true;
}

void StageParts::update(const Graph& graph, Weights& weights, const std::vector<Role>& roles, double lr_factor) {
  const c10::NoGradGuard no_grad;
  if (section_->clip_norm) {
    at::Tensor squares = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(weights.device()));
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) squares.add_(g.flat().norm().to(at::kDouble).square());
    }
    clip_factor_ = (*section_->clip_norm / (squares.sqrt() + 1e-6)).clamp_max(1).to(weights.dtype());
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) at::Tensor(g.flat()).mul_(clip_factor_);
    }
  }
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    const auto meant =
        std::ranges::count_if(optimized_[i], [&](Role r) { return std::ranges::find(roles, r) != roles.end(); });
    if (meant == 0) continue;
    if (meant != static_cast<std::ptrdiff_t>(optimized_[i].size())) {
      throw InputError(section_->optimizers[i].spec.location.str(),
                       "this optimizer is for weights and architecture parameters, and the controller updates them one "
                       "after the other: give each an optimizer of its own (`optimizers:` with `on: weights` and `on: "
                       "architecture`)");
    }
    optimizers_[i].call([&](Optimizer& optimizer) { optimizer.step(weights, optimizer.learning_rate() * lr_factor); });
  }
  if (regularizers_.empty()) return;
  const LearningRates of_update = rates(graph, roles, lr_factor);
  for (const auto& r : regularizers_) r.call([&](Regularizer& g) { g.after_update(graph, weights, of_update); });
}

bool StageParts::clipped() const {
  return clip_factor_.defined() && clip_factor_.item<double>() < 1;
}

}  // namespace espalier
