#include "plan/stage_outlook.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "data/split.h"
#include "espalier/error.h"
#include "espalier/foresight.h"
#include "espalier/loss.h"
#include "espalier/optimizer.h"
#include "plan/at_recipe.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

Value specs_of(const std::vector<OptimizerSection>& optimizers) {
  Value specs = Value::list();
  for (const OptimizerSection& o : optimizers) {
    specs.push_back(o.spec);
    if (!o.scheduled) specs.as_list().back()["scheduled"] = false;
    if (!o.clipped) specs.as_list().back()["clipped"] = false;
  }
  return specs;
}

// The keys of a stage, of a resolved recipe, that are not as they are when left out and that are no component.
Value keys_of(const Value& stage) {
  Value keys = Value::map();
  const auto add = [&](const std::string& name, const Value& fallback) {
    const Value* given = stage.find(name);
    if (given && !given->is_null() && !(*given == fallback)) keys[name] = *given;
  };
  const std::vector<ParameterInfo> parameters = Declare<StageKeys>().parameters();
  for (const ParameterInfo& p : parameters) {
    const bool elsewhere =
        p.name == "name" || p.name == "epochs" ||
        ((p.type == ParameterType::component || p.type == ParameterType::components) && p.name != Loss::kind);
    if (!elsewhere) add(p.name, p.fallback);
  }
  for (const SubsectionInfo& section : stage_subsections()) add(section.name, Value());
  return keys;
}

}  // namespace

bool concerns_controllers(const Awaited& awaited, const StageSection& stage) {
  return std::ranges::any_of(stage.controllers, [&](const Value& c) { return awaited.concerns(c); });
}

StepCost step_cost_of(const StageSection& stage, const Awaited& awaited) {
  StepCost cost;
  if (concerns_controllers(awaited, stage)) return cost;
  for_controllers(stage, [&](const Controller& c, const Value&) {
    if (const auto* own = dynamic_cast<const OwnStep*>(&c)) cost = own->step_cost();
  });
  return cost;
}

int64_t steps_of(const DataSection& data, const DatasetInfo& info, int64_t batches) {
  int64_t n = info.samples;
  if (n > 0 && data.limit > 0) n = std::min(n, data.limit);
  n -= std::llround(data.validation * static_cast<double>(n));
  return n == 0 ? 0 : steps_per_epoch(n, data, batches);
}

int64_t saturated(double bytes) {
  return static_cast<int64_t>(std::min(bytes, 9e15));
}

Value step_line(const StepCost& cost, const Graph& graph, int64_t samples, int64_t steps) {
  constexpr double forward_and_backward = 3;
  return Value::map({{"passes", cost.passes},
                     {"copies", cost.copies},
                     {"data", Value(Value::List(cost.parts.begin(), cost.parts.end()))},
                     {"macs", saturated(forward_and_backward * static_cast<double>(cost.passes) *
                                        static_cast<double>(graph.macs()) * static_cast<double>(samples))},
                     {"steps", steps}});
}

Value stage_line(const StageSection& s, const Value& resolved, const Value& outlook, const Value& norms,
                 const Value& step) {
  return Value::map({{"name", s.name},
                     {"epochs", s.epochs},
                     {"optimizers", specs_of(s.optimizers)},
                     {"regularizers", Value(Value::List(s.regularizers.begin(), s.regularizers.end()))},
                     {"controllers", Value(Value::List(s.controllers.begin(), s.controllers.end()))},
                     {"schedule", s.schedule},
                     {"keys", keys_of(resolved)},
                     {"outlook", outlook},
                     {"norms", norms},
                     {"step", step}});
}

Value outlook_of(const StageSection& stage, const DataSection& data, const DatasetInfo& info, const Graph& graph,
                 BeginningValues& values) {
  Value lines = Value::list();
  int64_t round = 0;  // the longest of all
  for_controllers(stage, [&](const Controller& c, const Value&) { round = std::max(round, c.round()); });
  const int64_t steps = steps_of(data, info, stage.accumulate) * (round > 0 ? round : stage.epochs);
  if (steps == 0) return lines;
  const auto initial = [&]() -> const Weights& { return values.of(graph); };
  for (const OptimizerSection& o : stage.optimizers) {
    at_recipe(o.spec, "optimizer", [&] {
      const auto optimizer = Registry::instance().create<Optimizer>(o.spec);
      for (const std::string& line : optimizer->outlook(graph, initial, o.on, steps)) lines.push_back(line);
      return 0;
    });
  }
  return lines;
}

Value found_by_controllers(const StageSection& stage, const Graph& graph, BeginningValues& values) {
  Value lines = Value::list();
  if (!values.known()) return lines;
  if (stage.epochs > 0) values.train();
  for_controllers(stage, [&](const Controller& c, const Value& spec) {
    const auto* says = dynamic_cast<const Foresight*>(&c);
    if (!says) return;
    const std::vector<std::string> table = says->finds(graph, values.of(graph));
    if (table.empty()) return;
    lines.push_back(name_of(spec, "controller") + " would find, of " + values.str() + ":");
    for (const std::string& line : table) lines.push_back(line);
  });
  return lines;
}

Edits foreseen_edits(const Controller& controller, const Value& spec, const Graph& graph, const Weights* values,
                     Value& lines) {
  try {
    Edits edits = controller.expected_edits(graph);
    const auto* says = dynamic_cast<const Foresight*>(&controller);
    if (!edits.empty() || !says) return edits;
    Foreseen foreseen = says->foresees(graph, values);
    if (!foreseen.why_not.empty()) lines.push_back(name_of(spec, "controller") + ": " + foreseen.why_not);
    return std::move(foreseen.edits);
  } catch (const EditError&) {
    return {};  // with other positions it may be possible
  }
}

}  // namespace espalier
