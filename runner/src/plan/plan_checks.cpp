#include "plan/plan_checks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <type_traits>

#include "espalier/augmentation.h"
#include "espalier/controller.h"
#include "espalier/error.h"
#include "espalier/loss.h"
#include "espalier/metric.h"
#include "espalier/optimizer.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "plan/at_recipe.h"
#include "plan/selectors.h"
#include "recipe/expect.h"
#include "recipe/loss.h"
#include "recipe/references.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

// 4 TB of weights in float32.
constexpr double max_parameters = 1e12;

std::string image_text(const DatasetInfo& info) {
  const std::string input =
      info.input.height == 0
          ? std::to_string(info.input.channels) + " features" +
                (info.input.nodes > 0 ? " of each of " + std::to_string(info.input.nodes) + " nodes" : "")
          : std::to_string(info.input.channels) + " x " + std::to_string(info.input.height) + " x " +
                std::to_string(info.input.width) + " pixels";
  const bool classes = info.target.task == task::classification;
  return input + " and " + std::to_string(info.target.outputs) +
         (classes ? " classes" : " outputs (" + info.target.task + ")");
}

bool has_own_optimizer(const Value& controller) {
  const Registered& c = Registry::instance().at("controller", name_of(controller, "controller"), controller.location);
  return std::ranges::any_of(c.component.parameters, [&](const ParameterInfo& p) {
    const Value* v = controller.find(p.name);
    return p.component_kind == "optimizer" && v && !v->is_null();
  });
}

}  // namespace

void refuse_empty_validation(const DataSection& data, int64_t samples) {
  throw InputError(data.dataset.location.str(), "data: 'validation' holds a share of " +
                                                    to_json(Value(data.validation)) + " out, which is no sample of " +
                                                    std::to_string(samples));
}

void check_data(const DataSection& data, const DatasetInfo& info) {
  const auto refuse = [&](const std::string& what) { throw InputError(data.dataset.location.str(), "data: " + what); };
  const size_t given = data.normalize.input.mean.size();
  if (data.normalize.input.on && given > 1 && given != static_cast<size_t>(info.input.channels)) {
    const bool image = info.input.height > 0;
    refuse("'normalize' has " + std::to_string(given) + " means, the " + (image ? "images have " : "data have ") +
           std::to_string(info.input.channels) + (image ? " channel" : " feature") +
           (info.input.channels == 1 ? "" : "s"));
  }
  std::vector<std::string> names{"input", "target"};
  for (const InputSpec::Other& other : info.input.others) names.push_back(other.name);
  for (const auto& [name, section] : data.normalize.by_name) {
    if (std::ranges::find(names, name) == names.end())
      refuse("'normalize' names '" + name + "', and the data have no such input or target" + suggestion(name, names));
    if (name == "target" && section.on && info.target.task != task::regression) {
      refuse("'normalize' names 'target', which holds " +
             std::string(info.target.task == task::classification ? "classes" : "labels") +
             ": only what is measured can be standardized");
    }
  }
  const int64_t samples = data.limit > 0 ? std::min(data.limit, info.samples) : info.samples;
  if (data.validation > 0 && samples > 0 && std::llround(data.validation * static_cast<double>(samples)) == 0)
    refuse_empty_validation(data, samples);
  if (std::min(info.input.height, info.input.width) == 0 && !data.augment.empty())
    refuse("'augment' is for images, this data set has vectors");
  for (const Value& spec : data.augment) {
    if (has_reference(spec)) continue;
    try {
      Registry::instance().create<Augmentation>(spec)->check(info.input);
    } catch (const InputError&) {
      throw;
    } catch (const Error& e) {
      refuse(e.what());
    }
  }
}

void check_size(const Graph& graph, const Value& spec) {
  double count = 0;
  for (const Parameter& p : graph.parameters()) {
    double n = 1;
    for (const int64_t size : graph.sizes(p.shape)) n *= static_cast<double>(size);
    count += n;
  }
  if (count <= max_parameters) return;
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", count);
  throw InputError(spec.location.str(), "the network would have " + std::string(text) +
                                            " parameters: more than fit into any memory; make its layers smaller");
}

void check_same_data(const StageSection& stage, const DatasetInfo& before, const DatasetInfo& now) {
  if (before.input == now.input && before.target == now.target) return;
  throw InputError(stage.data->dataset.location.str(), "stage '" + stage.name + "' has data of " + image_text(now) +
                                                           ", its network was built for " + image_text(before) +
                                                           ": give the stage a 'network'");
}

std::vector<std::string> check_optimizers(const StageSection& stage, const Graph& graph) {
  std::map<int32_t, size_t> updated_by;
  for (size_t i = 0; i < stage.optimizers.size(); ++i) {
    const OptimizerSection& o = stage.optimizers[i];
    for (const ParamId p : o.on.match(graph)) {
      const auto [first, is_new] = updated_by.try_emplace(p.id, i);
      if (is_new) continue;
      throw InputError((o.on.empty() ? o.spec.location : o.on_location).str(),
                       "stage '" + stage.name + "': " + graph[p].name + " is updated by optimizer " +
                           std::to_string(first->second + 1) +
                           " already: give each `on`, a selector, as in on: " + "[all, \"!" + graph[p].name + "\"]");
    }
  }
  std::vector<std::string> untrained;
  const std::vector<ParamId> frozen = stage.freeze.empty() ? std::vector<ParamId>() : stage.freeze.match(graph);
  if (stage.epochs == 0 || std::ranges::any_of(stage.controllers, has_own_optimizer)) return untrained;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    if (graph.parameters()[i].role == Role::buffer || updated_by.contains(static_cast<int32_t>(i))) continue;
    if (std::ranges::find(frozen, ParamId{static_cast<int32_t>(i)}) != frozen.end()) continue;
    untrained.push_back(graph.parameters()[i].name);
  }
  return untrained;
}

const char* const roles_apart_advice =
    "this optimizer is for weights and architecture parameters, and the controller updates them one after the other: "
    "give each an optimizer of its own (`optimizers:` with `on: [all, \"!architecture\"]` and `on: architecture`)";

void check_roles_apart(const StageSection& stage, const Graph& graph) {
  for (const OptimizerSection& o : stage.optimizers) {
    const std::vector<ParamId> selected = o.on.match(graph);
    const auto has = [&](Role role) {
      return std::ranges::any_of(selected, [&](ParamId p) { return graph[p].role == role; });
    };
    if (has(Role::weight) && has(Role::architecture))
      throw InputError((o.on.empty() ? o.spec.location : o.on_location).str(), roles_apart_advice);
  }
}

void check_metrics(const Recipe& recipe, const TargetSpec& target, Value& notes) {
  std::vector<std::string> names = expected_of_every_run();
  for (const Value& spec : recipe.metrics.empty() ? default_metrics(target) : recipe.metrics) {
    const auto metric = Registry::instance().create<Metric>(spec);
    at_recipe(spec, Metric::kind, [&] {
      metric->check(target);
      return 0;
    });
    names.push_back(name_of(spec, Metric::kind));
    if (names.size() == expected_of_every_run().size() + 1) names.push_back(names.back() + "_best");
  }
  if (!recipe.expect.is_map()) return;
  for (const Value::Entry& e : recipe.expect.as_map()) {
    if (std::ranges::find(names, e.key) != names.end() || is_measured_by_a_stage(e.key, recipe)) continue;
    std::string known;
    for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
    notes.push_back("expect: '" + e.key + "' is not measured with these data; measured are " + known);
  }
}

void check_training(const StageSection& s, const Metrics& metrics, const Graph& graph, Value& selectors) {
  const auto require = [&](const Selector& selector, const char* key) {
    if (selector.empty()) return;
    try {
      selector.require_matches(graph);
    } catch (const Error& e) {
      throw InputError(s.location.str(), "stage '" + s.name + "', " + key + ": " + e.what());
    }
    selectors.push_back(Value::map(
        {{"where", s.name + "." + key}, {"selector", selector.str()}, {"matches", names_of(graph, selector)}}));
  };
  require(s.freeze, "freeze");
  for (const auto& [selector, factor] : s.lr_scale.by_selector) require(selector, "lr_scale");
  if (s.early_stop && !s.early_stop->metric.empty()) {
    std::vector<std::string> names = metrics.names();
    names.emplace_back("loss");
    if (std::ranges::find(names, s.early_stop->metric) == names.end()) {
      throw InputError(s.early_stop->location.str(),
                       "stage '" + s.name + "', early_stop: no metric of the run is called '" + s.early_stop->metric +
                           "'" + suggestion(s.early_stop->metric, names));
    }
  }
}

void check_parts(const StageSection& stage, const TargetSpec& target, const Awaited& awaited) {
  const auto make = [&]<class T>(const Value& spec, std::type_identity<T>) {
    if (!awaited.concerns(spec))
      at_recipe(spec, T::kind, [&] { return Registry::instance().create<T>(spec) != nullptr; });
  };
  for (const OptimizerSection& o : stage.optimizers) make(o.spec, std::type_identity<Optimizer>());
  for (const Value& r : stage.regularizers) make(r, std::type_identity<Regularizer>());
  for (const Value& c : stage.controllers) make(c, std::type_identity<Controller>());
  const Value loss = loss_of(stage, target);
  if (has_reference(loss)) return;
  at_recipe(loss, Loss::kind, [&] {
    Registry::instance().create<Loss>(loss)->check(target);
    return 0;
  });
}

}  // namespace espalier
