#include "commands/show.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"
#include "record/checkpoint.h"
#include "record/recorded.h"
#include "record/summary.h"
#include "sweep/sweep.h"
#include "system/files.h"
#include "system/terminal.h"
#include "system/text.h"
#include "train/report.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

struct ShowOptions {
  std::string run;
  bool json = false, all = false;
  PluginOptions plugins;
};

// The lines of history.jsonl.
Value edits_of(const fs::path& run) {
  Value edits = Value::list();
  const fs::path file = run / "history.jsonl";
  if (!fs::exists(file)) return edits;
  std::istringstream text(read_file(file));
  int64_t number = 0;
  for (std::string line; std::getline(text, line);)
    edits.push_back(from_json(line, file.string() + ":" + std::to_string(++number)));
  return edits;
}

// The tensors of one Weights in a checkpoint: [{name, shape, states: {STATE: shape}}]. prefix: of its keys.
Value tensors_of(const Checkpoint& c, const std::string& prefix) {
  Value list = Value::list();
  for (const Parameter& p : c.graph.parameters()) {
    const auto own = c.tensors.find(prefix + "parameter:" + p.name);
    if (own == c.tensors.end()) continue;
    Value states = Value::map();
    for (const auto& [key, tensor] : c.tensors) {
      const std::string start = prefix + "state:", end = ":" + p.name;
      if (!key.starts_with(start) || !key.ends_with(end)) continue;
      states[key.substr(start.size(), key.size() - start.size() - end.size())] = tensor.sizes().vec();
    }
    list.push_back(Value::map({{"name", p.name}, {"shape", own->second.sizes().vec()}, {"states", states}}));
  }
  return list;
}

Value checkpoint_of(const fs::path& file) {
  Value v = Value::map({{"name", file.stem().string()}, {"bytes", static_cast<int64_t>(fs::file_size(file))}});
  try {
    const Checkpoint c = load_checkpoint(file);
    const Value& p = c.progress;
    const bool begun = p.at("stage_begun").as_bool();
    v["stage"] = begun ? p.at("name") : Value();
    v["stages_done"] = p.at("stage");
    for (const char* key : {"epoch", "step", "steps_done"}) v[key] = p.at(key);
    v["params"] = c.graph.parameter_count();
    v["macs"] = c.graph.macs();
    if (const Value* test = p.find("test")) v["metrics"] = test->at("metrics");
    Value& weights = v["weights"] = Value::list();
    for (const Value::Entry& of : c.counters.as_map()) {
      weights.push_back(Value::map(
          {{"name", of.key}, {"counters", of.value}, {"tensors", tensors_of(c, of.key.empty() ? "" : of.key + "/")}}));
    }
  } catch (const InputError& e) {
    v["damaged"] = std::string(e.what());
  }
  return v;
}

Value contents(const fs::path& run) {
  const std::optional<Summary> known = Summary::read(run);
  const Value summary = known ? known->to_value() : Value::map();
  Value v = Value::map({{"run", run.string()}});
  for (const char* key : {"name", "seed", "status", "error", "metrics", "metric", "stages"}) {
    if (const Value* s = summary.find(key)) v[key] = *s;
  }
  if (!v.find("status")) v["status"] = "not finished";
  v["edits"] = edits_of(run);
  Value& checkpoints = v["checkpoints"] = Value::list();
  for (const char* name : {"last", "previous", "best"}) {
    const fs::path file = run / "checkpoints" / (std::string(name) + ".safetensors");
    if (fs::exists(file)) checkpoints.push_back(checkpoint_of(file));
  }
  return v;
}

std::string edits_text(const Value& edits, bool all) {
  constexpr size_t shown = 20;
  std::vector<std::vector<std::string>> rows{{"stage", "epoch", "step", "edit", "params", "MACs", "difference"}};
  for (const Value& line : edits.as_list()) {
    if (!all && rows.size() > shown) break;
    const Value::List& list = line.at("edits").as_list();
    std::string text = list.empty() ? "" : Edit::from_value(list.front()).str();
    if (list.size() > 1) text += " and " + std::to_string(list.size() - 1) + " more";
    const auto change = [&](const char* key) {
      return count_text(line.at("before").at(key).as_int()) + " → " + count_text(line.at("after").at(key).as_int());
    };
    const Value* difference = line.find("removal_difference");
    if (!difference) difference = line.find("difference");
    rows.push_back({line.at("stage").as_string(), std::to_string(line.at("epoch").as_int()),
                    std::to_string(line.at("step").as_int()), text, change("params"), change("macs"),
                    difference && !difference->is_null() ? scientific(difference->as_double()) : ""});
  }
  std::string text = table(rows, 0);
  if (edits.size() + 1 > rows.size())
    text += "and " + std::to_string(edits.size() + 1 - rows.size()) + " more: --all shows all\n";
  return text;
}

std::string place_of(const Value& checkpoint) {
  if (checkpoint.at("stage").is_null()) {
    const int64_t done = checkpoint.at("stages_done").as_int();
    return done == 0 ? "before the first stage" : "after stage " + std::to_string(done);
  }
  return checkpoint.at("stage").as_string() + ", " + std::to_string(checkpoint.at("epoch").as_int()) +
         " epochs done, step " + std::to_string(checkpoint.at("step").as_int());
}

std::vector<std::string> states_of(const Value& tensors) {
  std::vector<std::string> states;
  for (const Value& t : tensors.as_list()) {
    for (const Value::Entry& s : t.at("states").as_map()) {
      if (std::ranges::find(states, s.key) == states.end()) states.push_back(s.key);
    }
  }
  return states;
}

// Beside the network's values: "sgd.momentum; average: sgd.momentum", the names of states and of other Weights.
std::string kept_text(const Value& weights) {
  std::string text;
  for (const Value& w : weights.as_list()) {
    const std::string& name = w.at("name").as_string();
    std::string states;
    for (const std::string& s : states_of(w.at("tensors"))) states += (states.empty() ? "" : ", ") + s;
    if (name.empty() && states.empty()) continue;
    text += (text.empty() ? "" : "; ") + name + (name.empty() || states.empty() ? "" : ": ") + states;
  }
  return text;
}

// "accuracy 91.25": the leading metric.
std::string metrics_text(const Value& metrics) {
  if (metrics.size() == 0) return "";
  const Value::Entry& first = metrics.as_map().front();
  return first.key + " " + (first.value.is_null() ? "not finite" : metric_text(first.value.as_double(), ""));
}

std::string checkpoints_text(const Value& checkpoints) {
  std::vector<std::vector<std::string>> rows{{"checkpoint", "stands", "params", "MACs", "test", "size", "states"}};
  for (const Value& c : checkpoints.as_list()) {
    const std::string size = bytes_text(c.at("bytes").as_int());
    if (const Value* damaged = c.find("damaged")) {
      rows.push_back({c.at("name").as_string(), "damaged: " + damaged->as_string(), "", "", "", size, ""});
      continue;
    }
    const Value* metrics = c.find("metrics");
    rows.push_back({c.at("name").as_string(), place_of(c), count_text(c.at("params").as_int()),
                    count_text(c.at("macs").as_int()), metrics ? metrics_text(*metrics) : "", size,
                    kept_text(c.at("weights"))});
  }
  return table(rows, 0);
}

std::string shape_text(const Value& shape) {
  std::vector<int64_t> sizes;
  for (const Value& n : shape.as_list()) sizes.push_back(n.as_int());
  return to_string(sizes);
}

// A row for each parameter, a column for each state.
std::string tensors_text(const Value& tensors) {
  const std::vector<std::string> states = states_of(tensors);
  std::vector<std::vector<std::string>> rows{{"parameter", "shape"}};
  rows[0].insert(rows[0].end(), states.begin(), states.end());
  for (const Value& t : tensors.as_list()) {
    std::vector<std::string>& row = rows.emplace_back();
    row = {t.at("name").as_string(), shape_text(t.at("shape"))};
    for (const std::string& state : states) {
      const Value* shape = t.at("states").find(state);
      row.push_back(shape ? shape_text(*shape) : "");
    }
  }
  return table(rows, 0);
}

// The values and states of the newest good checkpoint.
std::string weights_text(const Value& checkpoints) {
  for (const Value& c : checkpoints.as_list()) {
    if (c.find("damaged")) continue;
    std::string text;
    for (const Value& w : c.at("weights").as_list()) {
      const std::string& name = w.at("name").as_string();
      text += (text.empty() ? "" : "\n") + std::string("checkpoint ") + c.at("name").as_string() +
              (name.empty() ? ": the network's parameters and their states"
                            : ": '" + name + "', which a controller keeps") +
              "\n" + tensors_text(w.at("tensors"));
      for (const Value::Entry& n : w.at("counters").as_map())
        text += "counter " + n.key + ": " + to_json(n.value) + "\n";
    }
    return text;
  }
  return "";
}

LeadingMetric leading_of(const Value& contents, const std::vector<StageSummary>& stages) {
  if (const Value* m = contents.find("metric")) {
    return {m->at("name").as_string(), m->at("unit").as_string(), m->at("larger_is_better").as_bool()};
  }
  LeadingMetric leading;
  if (stages.empty() || stages.front().metrics.empty() || stages.front().metrics.front().first == leading.name)
    return leading;
  return {.name = stages.front().metrics.front().first, .unit = ""};
}

std::string text_of(const Value& v, bool all) {
  std::string text = v.find("name") ? v.at("name").as_string() + ", seed " + to_json(v.at("seed")) + ": " : "";
  text += v.at("status").as_string() + "\n";
  if (const Value* error = v.find("error")) text += error->as_string() + "\n";
  std::vector<StageSummary> stages;
  if (const Value* list = v.find("stages")) {
    for (const Value& s : list->as_list()) stages.push_back(StageSummary::from_value(s));
  }
  if (!stages.empty()) text += "\n" + stage_table(stages, leading_of(v, stages));
  text += "\n" + (v.at("edits").size() == 0 ? std::string("no edits\n") : edits_text(v.at("edits"), all));
  text += "\n" + (v.at("checkpoints").size() == 0 ? std::string("no checkpoints yet\n")
                                                  : checkpoints_text(v.at("checkpoints")));
  const std::string weights = weights_text(v.at("checkpoints"));
  return text + (weights.empty() ? "" : "\n" + weights);
}

void show(ShowOptions o) {
  const fs::path run = o.run;
  if (is_sweep(run)) throw InputError(o.run, "this is a sweep: show one of its runs, a folder in it");
  require_run(run);
  add_recorded(recorded(run / "environment.json"), "plugins", o.plugins.folders);
  register_builtin(Registry::instance());
  o.plugins.load();
  const Value v = contents(run);
  std::cout << (o.json ? to_json(v, 1) + "\n" : text_of(v, o.all));
}

}  // namespace

void add_show_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("show", "Shows a run: its stages, its edits, and what each of its checkpoints holds");
  auto o = std::make_shared<ShowOptions>();
  command->add_option("run", o->run, "The folder of a run, finished or not")->required()->type_name("RUN");
  command->add_flag("--all", o->all, "Shows all edits, however many there are");
  command->add_flag("--json", o->json,
                    "Prints JSON: {name, status, stages, edits, checkpoints: [{name, stage, epoch, step, params, macs, "
                    "weights: [{name, counters, tensors: [{name, shape, states: {STATE: shape}}]}]}]}");
  o->plugins.add_to(*command);
  command->footer("Example:\n  espalier show runs/quickstart-seed0\n");
  command->callback([o] { show(*o); });
}

}  // namespace espalier
