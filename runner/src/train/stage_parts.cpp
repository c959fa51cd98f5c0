#include "train/stage_parts.h"

#include <algorithm>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/per_selector.h"
#include "recipe/loss.h"

namespace espalier {

void StageParts::make(const StageSection& section, const std::function<Value(const Value&)>& known,
                      const TargetSpec& target) {
  section_ = &section;
  optimizer_specs_.clear();
  groups_.clear();
  for (const OptimizerSection& o : section.optimizers) {
    optimizer_specs_.push_back(known(o.spec));
    group_of(optimizer_specs_.size() - 1, 1);
  }
  regularizers_.clear();
  penalties_looked_at_ = false;
  for (const Value& r : section.regularizers) regularizers_.push_back(Made<Regularizer>::make(known(r)));
  controller_ = Made<Controller>::make(known(section.controller));
  schedule_ = Registry::instance().create<Schedule>(known(section.schedule));
  clip_factor_ = at::Tensor();
  loss_ = Made<Loss>::make(known(loss_of(section, target)));
  loss_.call([&](Loss& loss) { loss.check(target); });
}

StageParts::Group& StageParts::group_of(size_t section, double factor) {
  for (const auto& g : groups_) {
    if (g->section == section && g->factor == factor) return *g;
  }
  const Value& spec = optimizer_specs_[section];
  auto group = std::make_unique<Group>();
  group->section = section;
  group->factor = factor;
  group->made = Made<Optimizer>::make(spec);
  group->label = name_of(spec, "optimizer") + (section == 0 ? "" : std::to_string(section + 1));
  if (factor != 1) group->label += "*" + to_json(Value(factor));
  groups_.push_back(std::move(group));
  return *groups_.back();
}

std::vector<std::optional<double>> StageParts::factors(const Graph& graph, int64_t epoch) const {
  std::vector<std::optional<double>> all(graph.parameters().size(), 1.0);
  const PerSelector& scale = section_->lr_scale;
  for (size_t p = 0; p < all.size(); ++p) {
    all[p] = value_for(scale, graph, ParamId{static_cast<int32_t>(p)}).value_or(1);
  }
  if (section_->layer_decay < 1) {
    double factor = 1;
    for (size_t n = graph.nodes().size(); n-- > 0;) {
      bool is_layer = false;
      for (const ParamId p : graph.nodes()[n].parameters) {
        if (graph[p].role == Role::buffer) continue;
        is_layer = true;
        *all[static_cast<size_t>(p.id)] *= factor;
      }
      if (is_layer) factor *= section_->layer_decay;
    }
  }
  const bool frozen = !section_->freeze.empty() && (!section_->unfreeze_at || epoch < *section_->unfreeze_at);
  if (frozen) {
    for (const ParamId p : section_->freeze.match(graph)) all[static_cast<size_t>(p.id)].reset();
  }
  return all;
}

void StageParts::attach(const Graph& graph, Weights& weights, int64_t epoch) {
  optimizer_of_.assign(graph.parameters().size(), -1);
  const std::vector<std::optional<double>> factor_of = factors(graph, epoch);
  for (const auto& g : groups_) {
    g->roles.clear();
    g->on = Selector("!all");
  }
  for (size_t i = 0; i < section_->optimizers.size(); ++i) {
    const std::vector<ParamId> selected = section_->optimizers[i].on.match(graph);
    std::map<double, std::vector<ParamId>> by_factor;
    for (const ParamId p : selected) {
      if (const auto& f = factor_of[static_cast<size_t>(p.id)]) by_factor[*f].push_back(p);
    }
    for (const auto& [factor, parameters] : by_factor) {
      Group& g = group_of(i, factor);
      const auto position =
          static_cast<int>(std::ranges::find(groups_, &g, [](const auto& o) { return o.get(); }) - groups_.begin());
      std::vector<std::string> names;
      for (const ParamId p : parameters) {
        names.push_back(graph[p].name);
        if (std::ranges::find(g.roles, graph[p].role) == g.roles.end()) g.roles.push_back(graph[p].role);
        int& of = optimizer_of_[static_cast<size_t>(p.id)];
        if (of < 0) of = position;
      }
      g.on = parameters.size() == selected.size() ? section_->optimizers[i].on : Selector(std::move(names));
    }
  }
  attach_optimizers(graph, weights);
  for (const auto& r : regularizers_) r.call([&](Regularizer& regularizer) { regularizer.attach(graph, weights); });
}

void StageParts::attach_optimizers(const Graph& graph, Weights& weights) const {
  for (const auto& g : groups_) {
    if (g->roles.empty()) continue;  // all that it has is frozen
    g->made.call([&](Optimizer& optimizer) { optimizer.attach(graph, weights, g->on, g->label); });
  }
}

double StageParts::learning_rate() const {
  return groups_.empty() ? 0 : groups_.front()->made.object->learning_rate();
}

LearningRates StageParts::rates(const Graph& graph, const std::vector<Role>& roles, double lr_factor) const {
  std::vector<double> rates(graph.parameters().size(), 0.0);
  for (size_t p = 0; p < rates.size(); ++p) {
    const Parameter& parameter = graph.parameters()[p];
    const int optimizer = parameter.role == Role::buffer ? -1 : optimizer_of_[p];
    if (optimizer < 0 || std::ranges::find(roles, parameter.role) == roles.end()) continue;
    const Group& g = *groups_[static_cast<size_t>(optimizer)];
    rates[p] = g.made.object->learning_rate() * lr_factor * g.factor;
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

at::Tensor StageParts::update(const Graph& graph, Weights& weights, const std::vector<Role>& roles, double lr_factor) {
  const c10::NoGradGuard no_grad;
  at::Tensor norm;
  if (section_->clip_norm || section_->gradient_norm) {
    at::Tensor squares = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(weights.device()));
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) squares.add_(g.flat().norm().to(at::kDouble).square());
    }
    norm = squares.sqrt();
  }
  if (section_->clip_norm) {
    clip_factor_ = (*section_->clip_norm / (norm + 1e-6)).clamp_max(1).to(weights.dtype());
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) at::Tensor(g.flat()).mul_(clip_factor_);
    }
  }
  for (const auto& g : groups_) {
    const auto meant =
        std::ranges::count_if(g->roles, [&](Role r) { return std::ranges::find(roles, r) != roles.end(); });
    if (meant == 0) continue;
    if (meant != static_cast<std::ptrdiff_t>(g->roles.size())) {
      throw InputError(section_->optimizers[g->section].spec.location.str(),
                       "this optimizer is for weights and architecture parameters, and the controller updates them one "
                       "after the other: give each an optimizer of its own (`optimizers:` with `on: weights` and `on: "
                       "architecture`)");
    }
    g->made.call(
        [&](Optimizer& optimizer) { optimizer.step(weights, optimizer.learning_rate() * lr_factor * g->factor); });
  }
  if (regularizers_.empty()) return norm;
  const LearningRates of_update = rates(graph, roles, lr_factor);
  for (const auto& r : regularizers_) r.call([&](Regularizer& g) { g.after_update(graph, weights, of_update); });
  return norm;
}

bool StageParts::clipped() const {
  return clip_factor_.defined() && clip_factor_.item<double>() < 1;
}

}  // namespace espalier
