#include "train/stage_parts.h"

#include <algorithm>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/own_step.h"
#include "espalier/per_selector.h"
#include "plan/plan_checks.h"
#include "recipe/loss.h"

namespace espalier {

namespace {

// The l2 norm of all of them together, float64 [].
at::Tensor norm_of(const std::vector<at::Tensor>& gradients, at::Device device) {
  at::Tensor squares = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  for (const at::Tensor& g : gradients) squares.add_(g.norm().to(at::kDouble).square());
  return squares.sqrt();
}

}  // namespace

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
  controllers_.clear();
  for (const Value& c : section.controllers) controllers_.push_back(Made<Controller>::make(known(c)));
  const auto* own_step = dynamic_cast<const OwnStep*>(stepper().object.get());
  passes_ = own_step ? own_step->step_cost().passes : 1;
  schedule_ = Registry::instance().create<Schedule>(known(section.schedule));
  clip_factor_ = at::Tensor();
  loss_ = Made<Loss>::make(known(loss_of(section, target)));
  loss_.call([&](Loss& loss) { loss.check(target); });
}

const Made<Controller>& StageParts::stepper() const {
  const auto own = std::ranges::find_if(controllers_, [](const Made<Controller>& c) {
    const auto& provides = c.component->component.provides;
    return std::ranges::find(provides, Controller::own_step) != provides.end();
  });
  return own == controllers_.end() ? controllers_.front() : *own;
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
  unclipped_.assign(graph.parameters().size(), false);
  const std::vector<std::optional<double>> factor_of = factors(graph, epoch);
  for (const auto& g : groups_) {
    g->roles.clear();
    g->on = Selector("!all");
  }
  for (size_t i = 0; i < section_->optimizers.size(); ++i) {
    const std::vector<ParamId> selected = section_->optimizers[i].on.match(graph);
    for (const ParamId p : selected) unclipped_[static_cast<size_t>(p.id)] = !section_->optimizers[i].clipped;
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
  attach_copy(graph, weights);
}

void StageParts::attach_copy(const Graph& graph, Weights& weights) const {
  for (const auto& g : groups_) {
    if (g->roles.empty()) continue;  // all that it has is frozen
    g->made.call([&](Optimizer& optimizer) { optimizer.attach(graph, weights, g->on, g->label); });
  }
  for (const auto& r : regularizers_) r.call([&](Regularizer& regularizer) { regularizer.attach(graph, weights); });
}

void StageParts::end_stage(const Graph& graph, Weights& weights) const {
  const c10::NoGradGuard no_grad;
  for (const auto& r : regularizers_) r.call([&](Regularizer& regularizer) { regularizer.stage_end(graph, weights); });
}

double StageParts::learning_rate(double lr_factor) const {
  if (groups_.empty()) return 0;
  return groups_.front()->made.object->learning_rate() * scheduled(*groups_.front(), lr_factor);
}

std::vector<std::pair<std::string, double>> StageParts::learning_rates(double lr_factor) const {
  std::vector<std::pair<std::string, double>> all;
  for (const auto& g : groups_)
    all.emplace_back(g->label, g->made.object->learning_rate() * scheduled(*g, lr_factor) * g->factor);
  return all;
}

double StageParts::learning_rate(ParamId p, double lr_factor) const {
  const int optimizer = optimizer_of_[static_cast<size_t>(p.id)];
  if (optimizer < 0) return 0;
  const Group& g = *groups_[static_cast<size_t>(optimizer)];
  return g.made.object->learning_rate() * scheduled(g, lr_factor) * g.factor;
}

double StageParts::scheduled(const Group& group, double lr_factor) const {
  return section_->optimizers[group.section].scheduled ? lr_factor : 1;
}

LearningRates StageParts::rates(const Graph& graph, const std::vector<Role>& roles, double lr_factor) const {
  std::vector<double> rates(graph.parameters().size(), 0.0);
  for (size_t p = 0; p < rates.size(); ++p) {
    const Role role = graph.parameters()[p].role;
    if (role == Role::buffer || std::ranges::find(roles, role) == roles.end()) continue;
    rates[p] = learning_rate({static_cast<int32_t>(p)}, lr_factor);
  }
  return LearningRates(std::move(rates));
}

std::vector<std::string> StageParts::regularizers() const {
  std::vector<std::string> names;
  std::map<std::string, int> met;
  for (const auto& r : regularizers_) {
    const std::string& name = r.component->component.name;
    const int times = ++met[name];
    names.push_back(times == 1 ? name : name + "-" + std::to_string(times));
  }
  return names;
}

void StageParts::add_regularizers(const Graph& graph, Weights& weights, std::vector<at::Tensor>& penalties,
                                  const std::function<void(const std::string&)>& note) {
  for (size_t i = 0; i < regularizers_.size(); ++i) {
    const auto& r = regularizers_[i];
    at::Tensor& penalty = penalties.at(i);
    const double before = penalties_looked_at_ ? 0 : penalty.item<double>();
    r.call([&](Regularizer& regularizer) { regularizer.add(graph, weights, penalty); });
    if (!penalties_looked_at_ && penalty.item<double>() == before) {
      note("the penalty of '" + r.component->component.name +
           "' is exactly zero in the stage's first step: its weight is 0, or nothing that it names counts");
    }
  }
  penalties_looked_at_ = true;
}

std::vector<at::Tensor> StageParts::gradients(const Weights& weights, const std::vector<Role>& roles,
                                              bool clipped) const {
  const auto is_unclipped = [&](ParamId p) { return unclipped_[static_cast<size_t>(p.id)]; };
  std::vector<at::Tensor> all;
  for (const Role role : roles) {
    const Bank& bank = weights.bank(role);
    if (bank.gradients.numel() == 0) continue;
    if (!clipped || std::ranges::none_of(bank.parameters, is_unclipped)) {
      all.push_back(bank.gradients.flat());
      continue;
    }
    for (size_t i = 0; i < bank.parameters.size(); ++i) {
      if (!is_unclipped(bank.parameters[i])) all.push_back(bank.gradients.view(i));
    }
  }
  return all;
}

at::Tensor StageParts::update(const Graph& graph, Weights& weights, const std::vector<Role>& roles, double lr_factor) {
  const c10::NoGradGuard no_grad;
  at::Tensor norm;
  if (section_->clip_norm || section_->gradient_norm)
    norm = norm_of(gradients(weights, roles, /*clipped=*/false), weights.device());
  if (section_->clip_norm) {
    const bool all = std::ranges::find(unclipped_, true) == unclipped_.end();
    const std::vector<at::Tensor> counted = gradients(weights, roles, /*clipped=*/true);
    const at::Tensor norm_of_counted = all ? norm : norm_of(counted, weights.device());
    clip_factor_ = (*section_->clip_norm / (norm_of_counted + 1e-6)).clamp_max(1).to(weights.dtype());
    for (at::Tensor g : counted) g.mul_(clip_factor_);
  }
  for (const auto& g : groups_) {
    const auto meant =
        std::ranges::count_if(g->roles, [&](Role r) { return std::ranges::find(roles, r) != roles.end(); });
    if (meant == 0) continue;
    if (meant != static_cast<std::ptrdiff_t>(g->roles.size())) {
      throw InputError(section_->optimizers[g->section].spec.location.str(), roles_apart_advice);
    }
    g->made.call([&](Optimizer& optimizer) {
      optimizer.step(weights, optimizer.learning_rate() * scheduled(*g, lr_factor) * g->factor);
    });
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
