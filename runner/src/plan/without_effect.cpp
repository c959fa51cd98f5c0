#include "plan/without_effect.h"

#include <algorithm>
#include <memory>
#include <string>

#include "espalier/augmentation.h"
#include "espalier/controller.h"
#include "espalier/foresight.h"
#include "espalier/optimizer.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "recipe/schedule.h"
#include "system/text.h"

namespace espalier {

namespace {

// What of a stage is without effect, with its place.
class Idle {
 public:
  Idle(const StageSection& stage, const Graph& graph, const Awaited& awaited, Value& notes)
      : stage_(stage), graph_(graph), awaited_(awaited), notes_(notes) {}

  template <class T>
  void add(const Value& spec) {
    if (awaited_.concerns(spec)) return;  // not known yet
    const auto made = Registry::instance().create<T>(spec);
    const auto* knows = dynamic_cast<const Foresight*>(made.get());
    if (!knows) return;
    const std::string what = std::string(T::kind) + " '" + name_of(spec, T::kind) + "': ";
    for (const std::string& line : knows->idle(graph_, stage_.epochs)) note(spec.location, what + line);
  }

  // The stage's own keys.
  void add_keys() {
    const std::string stage = "stage '" + stage_.name + "'";
    if (stage_.start_from == "best" && !stage_.network.is_null())
      note(stage_.location, stage + ": 'start_from' is without effect where it has a network of its own");
    if (stage_.early_stop && stage_.early_stop->patience >= stage_.epochs && stage_.epochs > 0)
      note(stage_.early_stop->location,
           stage + ": 'early_stop' waits for " + std::to_string(stage_.early_stop->patience) +
               " evaluations, and the stage has " + std::to_string(stage_.epochs) + " epochs: it never ends it");
    if (stage_.unfreeze_at && *stage_.unfreeze_at >= stage_.epochs)
      note(stage_.location, stage + ": 'unfreeze_at' lies behind its last epoch: what is frozen stays so");
    if (!stage_.freeze.empty() && stage_.freeze.match(graph_).size() == Selector("all").match(graph_).size())
      note(stage_.location, stage + ": 'freeze' names everything: nothing is trained");
    if (stage_.lr_scale.by_selector.empty() && stage_.lr_scale.everywhere == 0)
      note(stage_.location, stage + ": 'lr_scale' is 0: nothing is trained");
    for (const OptimizerSection& o : stage_.optimizers) {
      const std::string of = stage + ": of the optimizer '" + name_of(o.spec, "optimizer") + "' ";
      if (!o.scheduled && name_of(stage_.schedule, Schedule::kind) == "constant")
        note(o.spec.location, of + "'scheduled' is without effect where the schedule is constant");
      if (!o.clipped && !stage_.clip_norm)
        note(o.spec.location, of + "'clipped' is without effect where the stage has no 'clip_norm'");
    }
    if (stage_.epochs > 0) return;
    std::string given;
    const auto list = [&](bool is_given, const char* key) {
      if (is_given) given += (given.empty() ? "'" : ", '") + std::string(key) + "'";
    };
    list(!stage_.regularizers.empty(), "regularizers");
    list(name_of(stage_.schedule, Schedule::kind) != "constant", "schedule");
    list(stage_.clip_norm.has_value(), "clip_norm");
    list(stage_.label_smoothing > 0, "label_smoothing");
    list(stage_.ema.has_value(), "ema");
    list(stage_.early_stop.has_value(), "early_stop");
    list(stage_.stop_below_lr.has_value(), "stop_below");
    list(!stage_.freeze.empty(), "freeze");
    if (!given.empty())
      note(stage_.location, stage + " has no epochs: what it has under " + given + " is without effect");
  }

 private:
  void note(const Location& where, const std::string& text) {
    notes_.push_back((where.file ? where.str() + ": " : "") + text);
  }

  const StageSection& stage_;
  const Graph& graph_;
  const Awaited& awaited_;
  Value& notes_;
};

}  // namespace

void note_idle(const StageSection& stage, const Graph& graph, const Awaited& awaited, Value& notes) {
  Idle idle(stage, graph, awaited, notes);
  for (const OptimizerSection& o : stage.optimizers) idle.add<Optimizer>(o.spec);
  for (const Value& r : stage.regularizers) idle.add<Regularizer>(r);
  for (const Value& c : stage.controllers) idle.add<Controller>(c);
  if (stage.epochs > 0) idle.add<Schedule>(stage.schedule);
  idle.add_keys();
}

void note_idle(const DataSection& data, const DatasetInfo& info, Value& notes) {
  const auto note = [&](const std::string& text) {
    const Location& where = data.dataset.location;
    notes.push_back((where.file ? where.str() + ": " : "") + "data: " + text);
  };
  if (info.samples > 0 && data.limit >= info.samples)
    note("'limit' is " + count_text(data.limit) + ", and there are " + count_text(info.samples) +
         " training samples: all are used");
  for (const Value& spec : data.augment) {
    for (const Value::Entry& e : spec.as_map()) {
      const auto& parameters =
          Registry::instance().find(Augmentation::kind, name_of(spec, Augmentation::kind))->component.parameters;
      const auto parameter = std::ranges::find(parameters, e.key, &ParameterInfo::name);
      const bool is_default =
          parameter != parameters.end() && parameter->fallback.is_number() && parameter->fallback.as_double() == 0;
      if (e.value.is_number() && e.value.as_double() == 0 && !is_default)
        note("the augmentation '" + name_of(spec, Augmentation::kind) + "' has '" + e.key + "' 0: it changes nothing");
    }
  }
}

}  // namespace espalier
