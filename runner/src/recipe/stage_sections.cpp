#include "recipe/stage_sections.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "espalier/controller.h"
#include "espalier/error.h"
#include "recipe/data_section.h"
#include "recipe/needs.h"
#include "recipe/network_section.h"
#include "recipe/overrides.h"
#include "recipe/references.h"
#include "recipe/schedule.h"
#include "recipe/section_keys.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

constexpr size_t max_stages = 1000;
constexpr int64_t max_epochs = 1'000'000'000;  // so that counts of steps fit into 64 bits, whatever multiplies them

class StageReader {
 public:
  StageReader(InForce in_force, ComponentSpecs& specs) : in_force_(std::move(in_force)), specs_(specs) {}

  void read(const Value& given, std::vector<StageSection>& stages, Value& resolved) {
    const std::string& expected = recipe_subsections()[1].expected;
    if (!given.is_list())
      throw InputError(given.location.str(), "'stages' must be " + expected + ", got " + given.describe());
    if (given.size() == 0)
      throw InputError(given.location.str(), "'stages' is empty: a recipe needs at least one stage");
    if (given.size() > max_stages)
      throw InputError(given.location.str(), "more than " + std::to_string(max_stages) + " stages");
    resolved = Value::list();
    for (const Value& stage : given.as_list()) {
      expect_map(stage, "a stage", "a map: {name: ..., epochs: ...}");
      Value all;
      StageSection s = read_stage(stage, stages.size() + 1, all);
      for (const StageSection& before : stages) {
        if (before.name != s.name) continue;
        throw InputError(stage.at("name").location.str(),
                         "two stages are called '" + s.name + "' (the first at " + before.location.str() + ")");
      }
      specs_.add_stage(published_by(s, specs_.registry()));
      stages.push_back(std::move(s));
      resolved.push_back(std::move(all));
    }
  }

 private:
  StageSection read_stage(const Value& as_written, size_t number, Value& resolved) {
    const Value stage = with_whole_network(as_written, specs_);
    const Value* name = stage.find("name");
    const std::string what =
        name && name->is_string() ? "stage '" + name->as_string() + "'" : "stage " + std::to_string(number);
    const std::vector<ParameterInfo> keys = Declare<StageKeys>().parameters();
    refuse_unknown_keys(stage, what, keys, stage_subsections());
    resolved = read_keys(stage, keys, what);
    check_name(resolved.at("name"));
    const StageKeys k = Declare<StageKeys>().read(resolved, what);

    StageSection s;
    s.name = k.name;
    s.location = stage.location;
    s.epochs = k.epochs;
    s.clip_norm = k.clip_norm;
    read_loss(k, stage, what, s, resolved);
    s.accumulate = k.accumulate;
    s.freeze = k.freeze;
    s.unfreeze_at = k.unfreeze_at;
    if (s.unfreeze_at && s.freeze.empty()) {
      throw InputError(resolved.at("unfreeze_at").location.str(),
                       what + " has 'unfreeze_at' and freezes nothing: give `freeze` a selector, or leave it out");
    }
    s.lr_scale = k.lr_scale;
    s.layer_decay = k.layer_decay;
    s.gradient_norm = k.gradient_norm;
    if (const auto ema = read_section<EmaKeys>(stage, "ema", resolved))
      s.ema = {.decay = ema->decay, .warmup = ema->warmup, .instead = ema->evaluate == "instead"};
    if (const auto stop = read_section<EarlyStopKeys>(stage, "early_stop", resolved)) {
      s.early_stop = {.metric = stop->metric,
                      .patience = stop->patience,
                      .min_delta = stop->min_delta,
                      .location = stage.at("early_stop").location};
    }
    if (const auto stop = read_section<StopBelowKeys>(stage, "stop_below", resolved)) s.stop_below_lr = stop->lr;
    s.start_from = k.start_from;
    s.evaluate_every = k.evaluate_every;
    if (s.epochs > max_epochs)
      throw InputError(resolved.at("epochs").location.str(), what + " would not end: at most 1e9 epochs");
    if (s.start_from == "best" && number == 1) {
      throw InputError(resolved.at("start_from").location.str(),
                       what + " is the first: there is no stage before it to start from");
    }

    if (!k.optimizer.value.is_null() && !k.optimizers.empty()) {
      throw InputError(key_location(stage, "optimizers").str(),
                       what + " has both 'optimizer' and 'optimizers': write one of them");
    }
    std::vector<Nested> optimizers = k.optimizers;
    if (!k.optimizer.value.is_null()) optimizers.push_back(k.optimizer);
    if (optimizers.empty() && s.epochs > 0) {
      throw InputError(stage.location.str(), what + " trains for " + std::to_string(s.epochs) +
                                                 " epochs and has no optimizer: write optimizer: {use: NAME}");
    }
    std::vector<Participant> participants;
    Value list = Value::list();
    for (const Nested& o : optimizers) {
      s.optimizers.push_back(read_optimizer(o.value));
      Value spec = s.optimizers.back().spec;
      participants.push_back({"optimizer", spec});
      if (!s.optimizers.back().on.empty()) spec["on"] = s.optimizers.back().on.terms();
      if (!s.optimizers.back().scheduled) spec["scheduled"] = false;
      if (!s.optimizers.back().clipped) spec["clipped"] = false;
      list.push_back(std::move(spec));
    }
    resolved.erase("optimizer");
    resolved["optimizers"] = std::move(list);

    list = Value::list();
    for (const Nested& r : k.regularizers) {
      s.regularizers.push_back(specs_.check("regularizer", r.value));
      participants.push_back({"regularizer", s.regularizers.back()});
      list.push_back(s.regularizers.back());
    }
    resolved["regularizers"] = std::move(list);

    read_controllers(k, stage, what, s, resolved);
    resolved["schedule"] = s.schedule = component_or(Schedule::kind, k.schedule.value, "constant", stage.location);
    // What schedules refuse beyond their declarations, they refuse when they are made.
    const std::unique_ptr<Schedule> schedule = [&]() -> std::unique_ptr<Schedule> {
      if (has_reference(s.schedule)) return nullptr;
      try {
        return specs_.registry().create<Schedule>(s.schedule);
      } catch (const Error& e) {
        throw InputError("", e.what());  // says where
      }
    }();
    try {
      if (k.epochs > 0 && schedule) schedule->check(k.epochs);
    } catch (const Error& e) {
      throw InputError(s.schedule.location.str(),
                       "schedule '" + name_of(s.schedule, Schedule::kind) + "': " + e.what());
    }

    if (const Value* data = stage.find("data"); data && !data->is_null()) {
      in_force_.data = merge(in_force_.data, data_as_map(*data));
      s.data = read_data(in_force_.data, resolved["data"], specs_);
      in_force_.dataset = s.data->dataset;
      in_force_.validation = s.data->validation;
    }
    resolved.erase("network");
    if (!k.network.value.is_null()) {
      s.network = in_force_.network = read_network(k.network.value, s.warm_start, resolved["network"], specs_);
    }

    for (const Value& c : s.controllers) participants.push_back({"controller", c});
    participants.push_back({"backbone", in_force_.network});
    participants.push_back({"dataset", in_force_.dataset});
    std::vector<std::string> given;
    if (in_force_.validation > 0) given.emplace_back("data:validation");
    check_needs(participants, given, s.name, specs_.registry());
    return s;
  }

  void read_controllers(const StageKeys& k, const Value& stage, const std::string& what, StageSection& s,
                        Value& resolved) const {
    resolved.erase("controllers");
    if (k.controllers.empty()) {
      s.controllers = {component_or("controller", k.controller.value, "none", stage.location)};
      resolved["controller"] = s.controllers.front();
      return;
    }
    if (!k.controller.value.is_null()) {
      throw InputError(key_location(stage, "controllers").str(),
                       what + " has both 'controller' and 'controllers': write one of them");
    }
    resolved.erase("controller");
    Value list = Value::list();
    std::string stepper;
    std::map<std::string, std::string> publishers;
    for (const Nested& c : k.controllers) {
      s.controllers.push_back(specs_.check("controller", c.value));
      list.push_back(s.controllers.back());
      const Component& component =
          specs_.registry().at("controller", name_of(c.value, "controller"), c.value.location).component;
      const auto refuse = [&](const std::string& other, const std::string& why) {
        throw InputError(c.value.location.str(), what + ": '" + other + "' and '" + component.name + "' " + why);
      };
      for (const Published& p : component.publishes) {
        const auto [first, is_new] = publishers.try_emplace(p.name, component.name);
        if (!is_new) refuse(first->second, "both publish '" + p.name + "': give each a stage of its own");
      }
      if (std::ranges::find(component.provides, Controller::own_step) == component.provides.end()) continue;
      if (!stepper.empty())
        refuse(stepper, "both have a training step of their own, and a stage carries out one: leave one of them out");
      stepper = component.name;
    }
    resolved["controllers"] = std::move(list);
  }

  // The loss, with `label_smoothing`, which is short for the option of cross_entropy.
  void read_loss(const StageKeys& k, const Value& stage, const std::string& what, StageSection& s,
                 Value& resolved) const {
    s.label_smoothing = k.label_smoothing;
    if (k.loss.value.is_null()) return;
    Value spec = k.loss.value;
    if (k.label_smoothing > 0) {
      const std::string& name = name_of(spec, "loss");
      if (name != "cross_entropy" || (spec.is_map() && spec.find("label_smoothing"))) {
        throw InputError(key_location(stage, "label_smoothing").str(),
                         what + ": 'label_smoothing' is short for the option of the loss cross_entropy" +
                             (name == "cross_entropy" ? ", which its 'loss' has already: write it once"
                                                      : ", and the stage has the loss '" + name + "': leave it out"));
      }
      if (spec.is_string()) {
        const Value use = spec;
        spec = Value::map({{"use", use}});
        spec.location = use.location;
      }
      spec["label_smoothing"] = k.label_smoothing;
      s.label_smoothing = 0;
      resolved["label_smoothing"] = 0.0;
    }
    resolved["loss"] = s.loss = specs_.check("loss", spec);
  }

  // A section of a stage with declared keys, or none.
  template <class Keys>
  static std::optional<Keys> read_section(const Value& stage, const char* name, Value& resolved) {
    const Value* given = stage.find(name);
    if (!given || given->is_null()) return std::nullopt;
    const auto info = std::ranges::find(stage_subsections(), name, &SubsectionInfo::name);
    expect_map(*given, "'" + std::string(name) + "'", info->expected);
    const std::vector<ParameterInfo> keys = Declare<Keys>().parameters();
    refuse_unknown_keys(*given, name, keys, {});
    resolved[name] = read_keys(*given, keys, name);
    return Declare<Keys>().read(resolved[name], name);
  }

  OptimizerSection read_optimizer(Value spec) const {
    const Registered& optimizer =
        specs_.registry().at("optimizer", name_of(spec, "optimizer"), spec.at("use").location);
    OptimizerSection o;
    const auto& own = optimizer.component.parameters;
    // An option of the optimizer's own is no key of the stage's.
    std::vector<ParameterInfo> keys = Declare<OptimizerKeys>().parameters();
    std::erase_if(keys, [&](const ParameterInfo& key) {
      return std::ranges::find(own, key.name, &ParameterInfo::name) != own.end();
    });
    const OptimizerKeys read = Declare<OptimizerKeys>().read(
        read_keys(spec, keys, "optimizer '" + optimizer.component.name + "'"), "optimizer");
    o.on = read.on;
    o.scheduled = read.scheduled;
    o.clipped = read.clipped;
    for (const ParameterInfo& key : keys) {
      const Value* given = spec.find(key.name);
      if (!given) continue;
      if (key.name == "on") {
        if (o.on.empty())
          throw InputError(given->location.str(),
                           "'on' is empty and selects nothing: leave it out to update all parameters");
        o.on_location = given->location;
      }
      spec.erase(key.name);
    }
    o.spec = specs_.check("optimizer", spec);
    return o;
  }

  Value component_or(const std::string& kind, const Value& given, const char* otherwise, const Location& where) const {
    if (!given.is_null()) return specs_.check(kind, given);
    Value spec = Value::map({{"use", otherwise}});
    spec.location = spec["use"].location = where;
    return specs_.check(kind, spec);
  }

  InForce in_force_;
  ComponentSpecs& specs_;
};

}  // namespace

void read_stages(const Value& given, InForce in_force, ComponentSpecs& specs, std::vector<StageSection>& stages,
                 Value& resolved) {
  StageReader(std::move(in_force), specs).read(given, stages, resolved);
}

}  // namespace espalier
