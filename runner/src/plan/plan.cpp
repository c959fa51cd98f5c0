#include "plan/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <type_traits>

#include "data/split.h"
#include "espalier/augmentation.h"
#include "espalier/backbone.h"
#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/error.h"
#include "espalier/foresight.h"
#include "espalier/loss.h"
#include "espalier/metric.h"
#include "espalier/operation.h"
#include "espalier/optimizer.h"
#include "espalier/own_step.h"
#include "espalier/regularizer.h"
#include "plan/awaited.h"
#include "plan/plan_checks.h"
#include "plan/run_network.h"
#include "plan/warm_start.h"
#include "recipe/expect.h"
#include "recipe/loss.h"
#include "recipe/schedule.h"
#include "recipe/sections.h"
#include "recipe/yaml.h"
#include "system/terminal.h"
#include "system/text.h"
#include "train/metrics.h"

namespace espalier {

namespace {

struct Network {
  Graph graph;
  DatasetInfo info;
};

// The values that a network begins with, as long as they are known.
class BeginningValues {
 public:
  BeginningValues() = default;
  // key: of what is drawn.
  BeginningValues(WarmStart start, RandomKey key) : start_(std::move(start)), key_(key), known_(true) {}

  const Weights& of(const Graph& graph) {
    if (!weights_) {
      weights_ = std::make_unique<Weights>(graph, at::kFloat, at::kCPU);
      weights_->initialize(graph, key_);
      if (!start_.from.empty()) warm_start(start_, graph, weights_.get());
    }
    return *weights_;
  }
  // The structure is another now: which positions went is not known.
  void lose() { known_ = false; }
  bool known() const { return known_; }
  // Whether a stage that comes now begins with just these.
  bool untrained() const { return known_ && !trained_; }
  // The network will have been trained.
  void train() { trained_ = true; }

  std::string str() const {
    const std::string of = start_.from.empty() ? "the initial values" : "the values of " + start_.from.string();
    return of + (trained_ ? ", before anything is trained" : "");
  }

 private:
  WarmStart start_;
  RandomKey key_;
  bool known_ = false, trained_ = false;
  std::unique_ptr<Weights> weights_;
};

template <class Make>
auto at_recipe(const Value& spec, const std::string& kind, Make make) {
  const Registered& c = Registry::instance().at(kind, name_of(spec, kind), spec.location);
  decltype(make()) result;
  labelled(c, spec.location, [&] { result = make(); });
  return result;
}

DatasetInfo info_of(const DataSection& data) {
  const auto dataset = Registry::instance().create<Dataset>(data.dataset);
  return resized(at_recipe(data.dataset, "dataset", [&] { return dataset->info(); }), data);
}

std::vector<int64_t> input_sizes(const InputSpec& input) {
  if (input.nodes > 0) return {input.nodes, input.channels};
  if (input.height > 0) return {input.channels, input.height, input.width};
  return {input.channels};
}

// What the network reads, the data have.
void check_inputs(const Graph& graph, const DatasetInfo& info, const Value& spec) {
  for (const Port& port : graph.inputs()) {
    // Targets are a matter of the task.
    if (port.name == "input" || port.name == "target" || port.name.starts_with("target.")) continue;
    const auto same = std::ranges::find(info.input.others, port.name, &InputSpec::Other::name);
    if (same == info.input.others.end()) {
      throw InputError(spec.location.str(), "the backbone '" + name_of(spec, "backbone") + "' reads the input '" +
                                                port.name + "', which the data do not have");
    }
    const std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
    if (same->sizes != sizes) {
      throw InputError(spec.location.str(), "the backbone '" + name_of(spec, "backbone") + "' reads the input '" +
                                                port.name + "' as " + to_string(sizes) + ", the data have " +
                                                to_string(same->sizes));
    }
  }
}

DatasetInfo checked_info_of(const DataSection& data) {
  DatasetInfo info = info_of(data);
  check_data(data, info);
  return info;
}

Network build(const DataSection& data, const Value& spec) {
  Network n;
  n.info = info_of(data);
  const auto backbone = Registry::instance().create<Backbone>(spec);
  check_data(data, n.info);
  n.graph = at_recipe(spec, "backbone", [&] { return backbone->build(n.info.input, n.info.target); });
  check_size(n.graph, spec);
  check_inputs(n.graph, n.info, spec);
  return n;
}

Value layers_of(const Graph& g) {
  Value layers = Value::list();
  for (const Node& n : g.nodes()) {
    Value parameters = Value::map();
    for (const ParamId p : n.parameters) parameters[g[p].name] = g.sizes(g[p].shape);
    layers.push_back(Value::map({{"name", n.name},
                                 {"operation", n.op->type()},
                                 {"output", g.sizes(g[n.outputs[0]].shape)},
                                 {"parameters", parameters},
                                 {"params", g.parameter_count(n)},
                                 {"macs", g.macs(n)}}));
  }
  return layers;
}

// Who shares each axis: nodes with parameters that make it, and nodes whose parameters read it from their input.
Value axes_of(const Graph& g) {
  Value axes = Value::list();
  for (size_t a = 0; a < g.axes().size(); ++a) {
    const AxisInfo& axis = g.axes()[a];
    Value makers = Value::list();
    Value readers = Value::list();
    for (const Node& n : g.nodes()) {
      bool makes = false, reads = false;
      for (const ParamId p : n.parameters) {
        for (size_t d = 0; d < g[p].shape.size(); ++d) {
          if (g[p].shape[d].reads({static_cast<int32_t>(a)})) (g[p].input[d] ? reads : makes) = true;
        }
      }
      if (makes) makers.push_back(n.name);
      if (reads) readers.push_back(n.name);
    }
    axes.push_back(Value::map(
        {{"name", axis.name}, {"size", axis.size}, {"fixed", axis.fixed}, {"made_by", makers}, {"read_by", readers}}));
  }
  return axes;
}

constexpr size_t axes_shown = 40;

std::string axes_text(const Value& axes, bool all) {
  const auto names = [&](const Value& list) {
    constexpr size_t shown = 4;
    std::string text;
    for (size_t i = 0; i < list.size(); ++i) {
      if (!all && i == shown && list.size() > shown + 1)
        return text + ", and " + std::to_string(list.size() - i) + " more";
      text += (i ? ", " : "") + list.as_list()[i].as_string();
    }
    return text;
  };
  std::vector<std::vector<std::string>> rows{{"axis", "size", "", "made by", "read by"}};
  for (const Value& a : axes.as_list()) {
    if (!all && rows.size() > axes_shown) break;
    rows.push_back({a.at("name").as_string(), count_text(a.at("size").as_int()), a.at("fixed").as_bool() ? "fixed" : "",
                    names(a.at("made_by")), names(a.at("read_by"))});
  }
  std::string text = table(rows, 0);
  if (axes.size() + 1 > rows.size())
    text += "and " + std::to_string(axes.size() + 1 - rows.size()) + " more axes: --axes shows all\n";
  return text;
}

// Bytes of hopeless plans do not fit into 64 bits.
int64_t saturated(double bytes) {
  return static_cast<int64_t>(std::min(bytes, 9e15));
}

Value names_of(const Graph& g, const Selector& s) {
  Value names = Value::list();
  for (const ParamId p : s.match(g)) names.push_back(g[p].name);
  return names;
}

// Every selector among the options of a component, nested ones too.
void add_selectors(const Graph& g, const std::vector<ParameterInfo>& parameters, const Value& spec,
                   const std::string& where, Value& out);

void add_selectors(const Graph& g, const std::string& kind, const Value& spec, const std::string& where, Value& out) {
  const Registered& c = Registry::instance().at(kind, name_of(spec, kind), spec.location);
  add_selectors(g, c.component.parameters, spec, where, out);
}

void add_selectors(const Graph& g, const std::vector<ParameterInfo>& parameters, const Value& spec,
                   const std::string& where, Value& out) {
  const auto add = [&](const Selector& s, const std::string& parameter, const Value& v) {
    if (s.empty()) return;
    try {
      s.require_matches(g);
    } catch (const Error& e) {
      throw InputError(v.location.str(), where + "." + parameter + ": " + e.what());
    }
    out.push_back(Value::map({{"where", where + "." + parameter}, {"selector", s.str()}, {"matches", names_of(g, s)}}));
  };
  for (const ParameterInfo& p : parameters) {
    const Value* v = spec.find(p.name);
    if (!v || v->is_null()) continue;
    if (is_reference(*v)) continue;
    if (p.type == ParameterType::options) add_selectors(g, p.options, *v, where + "." + p.name, out);
    if (p.type == ParameterType::selector) {
      Selector s;
      detail::assign(s, p.check(*v));
      add(s, p.name, v->location.file ? *v : spec);
    } else if (p.type == ParameterType::per_selector && v->is_map()) {
      for (const Value::Entry& e : v->as_map()) add(Selector(e.key.c_str()), p.name, e.value);
    } else if (p.type == ParameterType::component) {
      add_selectors(g, p.component_kind, *v, where + "." + p.name, out);
    } else if (p.type == ParameterType::components) {
      for (const Value& e : v->as_list()) add_selectors(g, p.component_kind, e, where + "." + p.name, out);
    }
  }
}

Value specs_of(const std::vector<OptimizerSection>& optimizers) {
  Value specs = Value::list();
  for (const OptimizerSection& o : optimizers) {
    specs.push_back(o.spec);
    if (!o.scheduled) specs.as_list().back()["scheduled"] = false;
    if (!o.clipped) specs.as_list().back()["clipped"] = false;
  }
  return specs;
}

// What the plan says of a stage.
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

// Calls `body` for each controller of the stage, in their order; what goes wrong is said at its place in the recipe.
template <class Body>
void for_controllers(const StageSection& stage, const Body& body) {
  for (const Value& spec : stage.controllers) {
    at_recipe(spec, "controller", [&] {
      const auto controller = Registry::instance().create<Controller>(spec);
      body(*controller, spec);
      return 0;
    });
  }
}

bool concerns_controllers(const Awaited& awaited, const StageSection& stage) {
  return std::ranges::any_of(stage.controllers, [&](const Value& c) { return awaited.concerns(c); });
}

// What a step of the stage takes: that of a controller that composes its own, or else an ordinary one. Not known yet
// where a controller takes something from an earlier stage, or from a run that does not exist yet.
StepCost step_cost_of(const StageSection& stage, const Awaited& awaited) {
  StepCost cost;
  if (concerns_controllers(awaited, stage)) return cost;
  for_controllers(stage, [&](const Controller& c, const Value&) {
    if (const auto* own = dynamic_cast<const OwnStep*>(&c)) cost = own->step_cost();
  });
  return cost;
}

// Steps of an epoch, or 0 where the data set must be read to know.
int64_t steps_of(const DataSection& data, const DatasetInfo& info, int64_t batches) {
  int64_t n = info.samples;
  if (n > 0 && data.limit > 0) n = std::min(n, data.limit);
  n -= std::llround(data.validation * static_cast<double>(n));
  return n == 0 ? 0 : steps_per_epoch(n, data, batches);
}

// {passes, copies, data, macs, steps}; macs: of a step of `samples` samples, of which a backward pass has twice those
// of a forward pass; steps: of an epoch, 0 where the data must be read to know.
Value step_line(const StepCost& cost, const Graph& graph, int64_t samples, int64_t steps) {
  constexpr double forward_and_backward = 3;
  return Value::map({{"passes", cost.passes},
                     {"copies", cost.copies},
                     {"data", Value(Value::List(cost.parts.begin(), cost.parts.end()))},
                     {"macs", saturated(forward_and_backward * static_cast<double>(cost.passes) *
                                        static_cast<double>(graph.macs()) * static_cast<double>(samples))},
                     {"steps", steps}});
}

// resolved: the stage in the resolved recipe.
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

// What the optimizers of a stage that begins with a new network say of a round of its controller, or of the whole
// stage.
Value outlook_of(const StageSection& stage, const DataSection& data, const Network& network, BeginningValues& values) {
  Value lines = Value::list();
  int64_t round = 0;  // the longest of all
  for_controllers(stage, [&](const Controller& c, const Value&) { round = std::max(round, c.round()); });
  const int64_t steps = steps_of(data, network.info, stage.accumulate) * (round > 0 ? round : stage.epochs);
  if (steps == 0) return lines;
  const auto initial = [&]() -> const Weights& { return values.of(network.graph); };
  for (const OptimizerSection& o : stage.optimizers) {
    at_recipe(o.spec, "optimizer", [&] {
      const auto optimizer = Registry::instance().create<Optimizer>(o.spec);
      for (const std::string& line : optimizer->outlook(network.graph, initial, o.on, steps)) lines.push_back(line);
      return 0;
    });
  }
  return lines;
}

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

// What of the data's keys is without effect.
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

// A network that teaches reads what the one that learns reads: inputs that are prepared as this recipe says. Where its
// own run prepared them otherwise, what it teaches is of little use.
void note_other_inputs(const StageSection& stage, const std::filesystem::path& teacher, const Value& data,
                       Value& notes) {
  const std::filesystem::path file = teacher / "recipe.yaml";
  if (!std::filesystem::exists(file)) return;
  const Value recipe = read_yaml(file);
  const Value* own = recipe.find("data");
  if (!own) return;
  for (const char* key : {"normalize", "resize"}) {
    const Value *theirs = own->find(key), *ours = data.find(key);
    const std::string was = theirs ? to_json(*theirs) : "null", is = ours ? to_json(*ours) : "null";
    if (was == is) continue;
    notes.push_back("stage '" + stage.name + "': the network that teaches, " + teacher.string() +
                    ", was trained with data." + key + " " + was + ", and reads inputs with " + is + " here");
  }
}

// The network of each stage as it ends; none where that is not known yet.
using StageNetworks = std::map<std::string, std::optional<Graph>>;

// The loss of a stage, and the networks that it learns from: their sizes as a list for the plan. data: the recipe's.
Value check_loss(const StageSection& stage, const DatasetInfo& info, const Graph& graph, const StageNetworks& at_end,
                 const Value& data, const Awaited& awaited, Value& notes) {
  const Value spec = loss_of(stage, info.target);
  Value teachers = Value::list();
  if (has_reference(spec)) return teachers;  // not known yet
  const auto loss = Registry::instance().create<Loss>(spec);
  at_recipe(spec, Loss::kind, [&] {
    loss->check(info.target);
    for (const std::string& name : loss->outputs()) {
      if (!graph.find_output(name)) throw Error("the network has no output '" + name + "'");
    }
    for (const std::string& name : loss->networks()) {
      const bool is_folder = std::filesystem::path(name).is_absolute();
      const auto stage_before = at_end.find(name);
      if (!is_folder && stage_before == at_end.end()) {
        std::vector<std::string> known;
        for (const auto& [other, g] : at_end) known.push_back(other);
        throw Error("no stage before it is called '" + name + "'" + suggestion(name, known));
      }
      if (is_folder ? awaited.covers(name) : !stage_before->second) continue;  // not known yet
      const Graph teacher = is_folder ? read_teacher(name).graph : *stage_before->second;
      if (is_folder) note_other_inputs(stage, name, data, notes);
      for (const Port& port : teacher.inputs()) {
        const auto same = std::ranges::find(graph.inputs(), port.name, &Port::name);
        if (port.name == "target" || port.name.starts_with("target.")) continue;
        const std::vector<int64_t> reads = teacher.sizes(teacher[port.edge].shape);
        if (same != graph.inputs().end() && graph.sizes(graph[same->edge].shape) == reads) continue;
        throw Error("the network that teaches, " + name + ", reads the input '" + port.name + "' as " +
                    to_string(reads) + ", and the one that learns " +
                    (same == graph.inputs().end() ? "does not read it"
                                                  : "as " + to_string(graph.sizes(graph[same->edge].shape))));
      }
      std::vector<int64_t> sizes = teacher.sizes(teacher[teacher.output("logits")].shape);
      if (sizes != graph.sizes(graph[graph.output("logits")].shape)) {
        throw Error("the network that teaches, " + name + ", gives " + to_string(sizes) + ", and the one that learns " +
                    to_string(graph.sizes(graph[graph.output("logits")].shape)));
      }
      teachers.push_back(Value::map({{"name", name}, {"params", teacher.parameter_count()}, {"macs", teacher.macs()}}));
      notes.push_back("stage '" + stage.name + "': each step computes the network that teaches, " + name + ", too: " +
                      count_text(teacher.macs()) + " MACs for each sample, beside " + count_text(graph.macs()));
    }
    return 0;
  });
  return teachers;
}

// Metrics that the recipe names, and those that it compares with, are for the task.
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

// What its controllers say of the values that its network begins with.
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

// The changes that a controller will make of the values that its network begins with; `lines` gets why not.
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

void refuse_missing_runs(const Recipe& recipe) {
  if (recipe.missing_runs.empty()) return;
  std::string text;
  for (const MissingRun& m : recipe.missing_runs) text += (text.empty() ? "" : "\n") + m.text;
  throw InputError("", text);
}

// What components refuse beyond their declarations, they refuse when they are made: those of a stage whose network is
// not known yet.
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

}  // namespace

Value plan_recipe(const Recipe& recipe, bool with_values, MissingRuns missing) {
  if (missing == MissingRuns::refused) refuse_missing_runs(recipe);
  const Awaited awaited(recipe);
  DataSection data = recipe.data;
  bool known = !awaited.concerns(recipe.network);       // the network of the stage under way
  bool awaits_run = awaited.names_run(recipe.network);  // otherwise it may await an artefact
  Network network = known ? build(data, recipe.network) : Network{{}, checked_info_of(data)};
  Value plan = Value::map(
      {{"name", recipe.name}, {"seed", recipe.seed}, {"device", recipe.device}, {"precision", recipe.precision}});
  const DatasetInfo& info = network.info;
  plan["data"] = Value::map({{"dataset", name_of(data.dataset, "dataset")},
                             {"input", Value(input_sizes(info.input))},
                             {"task", info.target.task},
                             {info.target.task == task::classification ? "classes" : "outputs", info.target.outputs},
                             {"batch", data.batch}});
  plan["network"] = Value();
  if (known) {
    plan["network"] = Value::map({{"backbone", name_of(recipe.network, "backbone")},
                                  {"params", network.graph.parameter_count()},
                                  {"macs", network.graph.macs()},
                                  {"layers", layers_of(network.graph)},
                                  {"axes", axes_of(network.graph)}});
  }
  Value selectors = Value::list();
  Value stages = Value::list();
  Value notes = Value::list();
  for (const MissingRun& m : recipe.missing_runs) notes.push_back(m.text);
  Value beginnings = Value::list();
  const auto check_warm_start = [&](const WarmStart& start, const Value& spec) {
    if (start.from.empty() || awaited.covers(start.from)) return;
    const Loaded loaded = warm_start(start, network.graph, nullptr);
    if (loaded.tensors < loaded.of_tensors)
      notes.push_back("network.from: " + loaded.str() + " begin with the values of " + start.from.string() +
                      ", the rest as new");
    for (const std::string& line : loaded.rest) notes.push_back("network.from: " + line);
    beginnings.push_back("The network begins with " + loaded.str() + " of " + start.from.string() +
                         (loaded.layout.empty() ? "" : ", in the layout " + loaded.layout + ":"));
    for (const std::string& line : loaded.mapping) beginnings.push_back("  " + line);
    for (const std::string& line : loaded.left_out) beginnings.push_back("The classifier begins anew: " + line);
    const std::string unseen = unseen_in_file(start, network.graph, name_of(spec, "backbone"));
    if (!unseen.empty()) beginnings.push_back(unseen);
  };
  if (known) check_warm_start(recipe.warm_start, recipe.network);
  note_idle(data, info, notes);
  check_metrics(recipe, info.target, notes);
  StageNetworks at_end;
  Value teachers = Value::list();
  Metrics metrics;
  metrics.make(recipe.metrics, info.target);
  int64_t most_states = 0, most_copies = 1;
  Graph largest = network.graph;  // which decides how much memory is needed
  const RandomKey key(static_cast<uint64_t>(recipe.seed));
  BeginningValues values;
  for (const StageSection& s : recipe.stages) {
    const Value& resolved = recipe.resolved.at("stages").as_list()[stages.size()];
    // Whether the stage begins with drawn values, and what they are drawn for.
    const bool first = &s == recipe.stages.data();
    const bool is_new = s.network.is_null() ? first && recipe.warm_start.from.empty() : s.warm_start.from.empty();
    const std::string purpose = s.network.is_null() ? "network" : "network " + s.name;
    if (s.data) {
      data = *s.data;
      note_idle(data, info_of(data), notes);
    }
    if (!s.network.is_null()) {
      known = !awaited.concerns(s.network);
      awaits_run = awaited.names_run(s.network);
      if (known) {
        network = build(data, s.network);
        check_warm_start(s.warm_start, s.network);
      }
    }
    if (!known) {
      notes.push_back("stage '" + s.name + "': its network is not known yet; it depends on " +
                      (awaits_run ? "a run that does not exist yet" : "what an earlier stage publishes"));
      check_parts(s, network.info.target, awaited);
      at_end[s.name] = std::nullopt;
      stages.push_back(stage_line(s, resolved, Value::list(), Value::list(), Value()));
      continue;
    }
    if (s.network.is_null() && s.data) {
      const DatasetInfo now = info_of(data);
      check_data(data, now);
      check_same_data(s, network.info, now);
    }
    const bool has_own = first || !s.network.is_null();
    if (has_own) {
      const WarmStart& start = s.network.is_null() ? recipe.warm_start : s.warm_start;
      values = {start, key.with(purpose)};
      if (awaited.covers(start.from)) values.lose();
    }
    // What depends on an artefact, or on a run, cannot be made before it is there.
    const bool decided = !concerns_controllers(awaited, s);
    if (decided) {
      for_controllers(s, [&](const Controller& c, const Value&) {
        const Edits edits = c.begin(network.graph);
        apply(network.graph, {}, edits);
        // A file does not hold what is new (gates), and is not compared with it.
        if (!edits.empty() && !is_new) values.lose();
      });
    }
    int64_t states = 0;
    for (size_t i = 0; i < s.optimizers.size(); ++i) {
      const OptimizerSection& o = s.optimizers[i];
      // What components refuse beyond their declarations, they refuse when they are made.
      if (!awaited.concerns(o.spec)) {
        at_recipe(o.spec, "optimizer", [&] {
          Registry::instance().create<Optimizer>(o.spec)->check(network.graph, o.on);
          return true;
        });
      }
      const std::string where = s.name + ".optimizer" + (s.optimizers.size() > 1 ? "s[" + std::to_string(i) + "]" : "");
      const Registered& c = Registry::instance().at("optimizer", name_of(o.spec, "optimizer"), o.spec.location);
      states +=
          std::ranges::count_if(c.component.provides, [](const std::string& p) { return p.starts_with("state:"); });
      if (!o.on.empty()) {
        try {
          o.on.require_matches(network.graph);
        } catch (const Error& e) {
          throw InputError(o.on_location.str(), where + ".on: " + e.what());
        }
        selectors.push_back(Value::map(
            {{"where", where + ".on"}, {"selector", o.on.str()}, {"matches", names_of(network.graph, o.on)}}));
      }
      add_selectors(network.graph, "optimizer", o.spec, where, selectors);
    }
    most_states = std::max(most_states, states);
    const StepCost step = step_cost_of(s, awaited);
    if (s.epochs > 0) {
      most_copies = std::max(most_copies, step.copies);
      if (step.roles_apart) check_roles_apart(s, network.graph);
    }
    if (const std::vector<std::string> untrained = check_optimizers(s, network.graph); !untrained.empty()) {
      std::string names;
      for (const std::string& n : untrained) names += (names.empty() ? "" : ", ") + n;
      notes.push_back("stage '" + s.name + "': no optimizer updates " + names);
    }
    for (const Value& r : s.regularizers) {
      if (!awaited.concerns(r))
        at_recipe(r, "regularizer", [&] { return Registry::instance().create<Regularizer>(r) != nullptr; });
      add_selectors(network.graph, "regularizer", r, s.name + "." + name_of(r, "regularizer"), selectors);
    }
    for (const Value& c : s.controllers)
      add_selectors(network.graph, "controller", c,
                    s.name + "." + (s.controllers.size() > 1 ? name_of(c, "controller") : "controller"), selectors);
    if (decided) for_controllers(s, [&](const Controller& c, const Value&) { c.check(network.graph); });
    const Value taught_by =
        check_loss(s, network.info, network.graph, at_end, recipe.resolved.at("data"), awaited, notes);
    for (const Value& t : taught_by.as_list()) teachers.push_back(t);
    check_training(s, metrics, network.graph, selectors);
    Idle idle(s, network.graph, awaited, notes);
    for (const OptimizerSection& o : s.optimizers) idle.add<Optimizer>(o.spec);
    for (const Value& r : s.regularizers) idle.add<Regularizer>(r);
    for (const Value& c : s.controllers) idle.add<Controller>(c);
    if (s.epochs > 0) idle.add<Schedule>(s.schedule);
    idle.add_keys();
    const bool made =
        decided && std::ranges::none_of(s.optimizers, [&](const auto& o) { return awaited.concerns(o.spec); });
    const bool untrained = with_values && values.untrained();
    const Value outlook = is_new && made ? outlook_of(s, data, network, values) : Value::list();
    Value found = decided && with_values ? found_by_controllers(s, network.graph, values) : Value::list();
    if (network.graph.parameter_count() > largest.parameter_count()) largest = network.graph;
    at_end[s.name] = network.graph;
    if (s.epochs > 0) values.train();
    // Each of them sees what those before it will have done.
    Graph after = network.graph;
    bool changes = false, foreseen = decided;
    if (decided) {
      const Weights* initial = untrained ? &values.of(network.graph) : nullptr;
      for_controllers(s, [&](const Controller& c, const Value& spec) {
        if (!foreseen) return;
        const Edits edits = foreseen_edits(c, spec, after, changes ? nullptr : initial, found);
        try {
          apply(after, {}, edits);
          changes = changes || !edits.empty();
        } catch (const EditError&) {
          // With other positions it may be possible: what the stages behind it find is not known then.
          foreseen = false;
        }
      });
    }
    const Value of_step = decided && s.epochs > 0 ? step_line(step, network.graph, data.batch * s.accumulate,
                                                              steps_of(data, network.info, s.accumulate))
                                                  : Value();
    stages.push_back(stage_line(s, resolved, outlook, found, of_step));
    network.graph = std::move(after);
    if (changes) values.lose();
    at_end[s.name] = network.graph;
  }
  plan["selectors"] = selectors;
  plan["stages"] = stages;
  plan["beginnings"] = beginnings;
  plan["notes"] = notes;
  if (!recipe.base.is_null() && !recipe.base.find("macs") && !awaited.concerns(recipe.base))
    build(recipe.data, recipe.base);

  // Weights, gradients and states; activations of one batch, all kept for the backward pass.
  const Graph& g = largest;
  const int64_t word = recipe.precision == "float64" ? 8 : 4;
  int64_t activations = 0;
  for (const EdgeInfo& e : g.edges()) activations += g.numel(e.shape);
  int64_t taught = 0;
  for (const Value& t : teachers.as_list()) taught += t.at("params").as_int();
  if (teachers.size() > 0) plan["teachers"] = teachers;
  plan["memory"] = Value();
  if (g.nodes().empty()) return plan;  // no stage's network is known
  plan["memory"] =
      Value::map({{"weights", (g.parameter_count() * most_copies + taught) * word},
                  {"gradients", g.parameter_count() * most_copies * word},
                  {"states", g.parameter_count() * most_copies * most_states * word},
                  {"activations", saturated(static_cast<double>(activations) * static_cast<double>(recipe.data.batch) *
                                            static_cast<double>(recipe.precision == "bf16" ? 2 : word))}});
  return plan;
}

Graph planned_network(const Recipe& recipe) {
  if (Awaited(recipe).concerns(recipe.network)) refuse_missing_runs(recipe);
  return build(recipe.data, recipe.network).graph;
}

namespace {

// What a step takes, as a line; empty of an ordinary step.
std::string step_text(const Value& step) {
  if (step.is_null()) return "";
  const int64_t passes = step.at("passes").as_int(), copies = step.at("copies").as_int();
  const Value& parts = step.at("data");
  if (passes == 1 && copies == 1 && parts.size() == 1 && parts.as_list()[0].as_string() == "train") return "";
  std::string of;
  for (const Value& part : parts.as_list()) of += (of.empty() ? "" : " and ") + part.as_string();
  return "  a step: " + std::to_string(passes) + (passes == 1 ? " pass" : " passes") + " forward and backward (about " +
         count_text(step.at("macs").as_int()) + " MACs), " + std::to_string(copies) +
         (copies == 1 ? " copy" : " copies") + " of the weights, batches of " + of + "\n";
}

// " (regression of 16 values)" of what are no classes.
std::string task_text(const Value& data) {
  const Value* outputs = data.find("outputs");
  if (!outputs) return "";
  return " (" + data.at("task").as_string() + ", " + count_text(outputs->as_int()) +
         (outputs->as_int() == 1 ? " output)" : " outputs)");
}

std::string network_text(const Value& network, bool all_axes) {
  std::vector<std::vector<std::string>> rows{{"layer", "operation", "output", "params", "MACs"}};
  for (const Value& l : network.at("layers").as_list()) {
    std::vector<int64_t> sizes;
    for (const Value& n : l.at("output").as_list()) sizes.push_back(n.as_int());
    const int64_t params = l.at("params").as_int();
    const int64_t macs = l.at("macs").as_int();
    rows.push_back({l.at("name").as_string(), l.at("operation").as_string(), to_string(sizes),
                    params ? count_text(params) : "", macs ? count_text(macs) : ""});
  }
  rows.push_back(
      {"network", "", "", count_text(network.at("params").as_int()), count_text(network.at("macs").as_int())});
  return number_table(rows) + "\n" + axes_text(network.at("axes"), all_axes) + "\n";
}

}  // namespace

std::string plan_text(const Value& plan, bool all_axes) {
  const Value& network = plan.at("network");
  std::string text = plan.at("name").as_string() + ": " +
                     (network.is_null() ? "a network that depends on a run which does not exist yet, on "
                                        : network.at("backbone").as_string() + " on ") +
                     plan.at("data").at("dataset").as_string() + task_text(plan.at("data")) + ", seed " +
                     std::to_string(plan.at("seed").as_int()) + "\n\n";
  if (!network.is_null()) text += network_text(network, all_axes);
  for (const Value& s : plan.at("selectors").as_list()) {
    text += s.at("where").as_string() + ": " + s.at("selector").as_string() + " →";
    for (const Value& n : s.at("matches").as_list()) text += " " + n.as_string();
    text += "\n";
  }
  if (!network.is_null()) text += "\n";
  for (const Value& s : plan.at("stages").as_list()) {
    text += "stage " + s.at("name").as_string() + ": " + std::to_string(s.at("epochs").as_int()) + " epochs";
    for (const Value& o : s.at("optimizers").as_list()) text += ", " + to_json(o);
    for (const Value& r : s.at("regularizers").as_list()) text += ", " + to_json(r);
    for (const Value& c : s.at("controllers").as_list()) text += ", " + to_json(c);
    text += ", " + to_json(s.at("schedule"));
    for (const Value::Entry& k : s.at("keys").as_map()) text += ", " + k.key + " " + to_json(k.value);
    text += "\n";
    text += step_text(s.at("step"));
    for (const char* said : {"outlook", "norms"}) {
      for (const Value& line : s.at(said).as_list()) text += "  " + line.as_string() + "\n";
    }
  }
  for (const Value& line : plan.at("beginnings").as_list()) text += line.as_string() + "\n";
  for (const Value& note : plan.at("notes").as_list()) text += "note: " + note.as_string() + "\n";
  const Value& m = plan.at("memory");
  if (m.is_null()) return text;
  int64_t total = 0;
  for (const Value::Entry& e : m.as_map()) total += e.value.as_int();
  text += "\nmemory, about: weights " + bytes_text(m.at("weights").as_int()) + ", gradients " +
          bytes_text(m.at("gradients").as_int()) + ", states " + bytes_text(m.at("states").as_int()) +
          ", activations of a batch of " + std::to_string(plan.at("data").at("batch").as_int()) + " " +
          bytes_text(m.at("activations").as_int()) + "; together " + bytes_text(total) + "\n";
  return text;
}

}  // namespace espalier
