#include "plan/plan.h"

#include <algorithm>
#include <map>
#include <optional>

#include "data/split.h"
#include "espalier/backbone.h"
#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/error.h"
#include "espalier/loss.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "plan/at_recipe.h"
#include "plan/awaited.h"
#include "plan/beginning_values.h"
#include "plan/network_tables.h"
#include "plan/plan_checks.h"
#include "plan/run_network.h"
#include "plan/selectors.h"
#include "plan/stage_outlook.h"
#include "plan/warm_start.h"
#include "plan/without_effect.h"
#include "recipe/loss.h"
#include "recipe/yaml.h"
#include "system/text.h"
#include "train/metrics.h"

namespace espalier {

namespace {

struct Network {
  Graph graph;
  DatasetInfo info;
};

DatasetInfo info_of(const DataSection& data) {
  const auto dataset = Registry::instance().create<Dataset>(data.dataset);
  return resized(at_recipe(data.dataset, "dataset", [&] { return dataset->info(); }), data);
}

std::vector<int64_t> input_sizes(const InputSpec& input) {
  if (input.nodes > 0) return {input.nodes, input.channels};
  if (input.height > 0) return {input.channels, input.height, input.width};
  return {input.channels};
}

// Whether an input of a network is a target of the batch (espalier/rows.h).
bool is_target(const Port& port) {
  return port.name == "target" || port.name.starts_with("target.");
}

// What the network reads, the data have.
void check_inputs(const Graph& graph, const DatasetInfo& info, const Value& spec) {
  for (const Port& port : graph.inputs()) {
    // Targets are a matter of the task.
    if (port.name == "input" || is_target(port)) continue;
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
      if (graph.find_output(name)) continue;
      std::string there;
      for (const Port& port : graph.outputs()) there += (there.empty() ? "" : ", ") + port.name;
      throw Error("the network has no output '" + name + "' that this loss reads (it has " + there +
                  "); where options of the loss repeat some of the network, they must be the same");
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
        if (is_target(port)) continue;
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

void refuse_missing_runs(const Recipe& recipe) {
  if (recipe.missing_runs.empty()) return;
  std::string text;
  for (const MissingRun& m : recipe.missing_runs) text += (text.empty() ? "" : "\n") + m.text;
  throw InputError("", text);
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
    note_idle(s, network.graph, awaited, notes);
    const bool made =
        decided && std::ranges::none_of(s.optimizers, [&](const auto& o) { return awaited.concerns(o.spec); });
    const bool untrained = with_values && values.untrained();
    const Value outlook = is_new && made ? outlook_of(s, data, network.info, network.graph, values) : Value::list();
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

}  // namespace espalier
