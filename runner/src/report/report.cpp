#include "report/report.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <set>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "formats/tensorboard.h"
#include "record/environment.h"
#include "record/recorded.h"
#include "store/store.h"
#include "system/files.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// What a run's folder is called in its sweep: "seed=0,weight=0.01"; empty of one that is in none.
std::string label_of(const StoredRun& run) {
  return fs::exists(run.folder.parent_path() / "sweep.json") ? run.folder.filename().string() : "";
}

std::string without_seed(const std::string& label) {
  std::string rest;
  for (size_t at = 0; at <= label.size();) {
    const size_t end = std::min(label.find(',', at), label.size());
    const std::string part = label.substr(at, end - at);
    if (!part.starts_with("seed=")) rest += (rest.empty() ? "" : ",") + part;
    at = end + 1;
  }
  return rest;
}

struct Place {
  std::string paper;    // the folder below recipes/paper: "003"; else the folder of the recipe
  std::string section;  // of a paper the beginning of the file's name: "t4", "f1"; of a folder in recipes/, which is
                        // one comparison: ""; else the file's name
};

Place place_of(const StoredRun& run) {
  const fs::path source = run.source;
  if (source.empty()) return {"runs", run.name};
  const std::string stem = source.stem().string();
  const bool of_paper = source.parent_path().parent_path().filename() == "paper";
  const bool of_comparison = source.parent_path().parent_path().filename() == "recipes";
  return {source.parent_path().filename().string(),
          of_paper ? stem.substr(0, stem.find('-')) : (of_comparison ? "" : stem)};
}

Value number(double v) {
  return std::isfinite(v) ? Value(v) : Value();
}

// Columns of metrics.jsonl that curves are drawn of.
Value curves_of(const Value& lines) {
  static const std::set<std::string> without{"epoch",          "step", "seconds", "images_per_second",
                                             "peak_memory_mb", "lr",   "stage",   "tensor_memory_mb"};
  Value columns = Value::map();
  size_t row = 0;
  for (const Value& line : lines.as_list()) {
    for (const Value::Entry& e : line.as_map()) {
      if (without.contains(e.key) || !(e.value.is_number() || e.value.is_null())) continue;
      Value& column = columns[e.key];
      if (column.is_null()) column = Value::list();
      while (column.size() < row) column.push_back({});
      column.push_back(e.value.is_null() ? Value() : number(e.value.as_double()));
    }
    ++row;
  }
  Value stages = Value::list();
  for (const Value& line : lines.as_list()) stages.push_back(line.find("stage") ? line.at("stage") : Value(""));
  columns["stage"] = stages;
  return columns;
}

Value edits_of(const Value& lines) {
  constexpr size_t most = 200;  // of a run in a page; the folder has all
  Value edits = Value::list();
  for (const Value& line : lines.as_list()) {
    if (edits.size() == most) break;
    const Value::List& list = line.at("edits").as_list();
    std::string text;
    try {
      text = list.empty() ? "" : Edit::from_value(list.front()).str();
    } catch (const Error&) {  // an edit that a later program knows
      text = list.front().at("edit").as_string();
    }
    if (list.size() > 1) text += " and " + std::to_string(list.size() - 1) + " more";
    const Value* difference = line.find("removal_difference");
    if (!difference) difference = line.find("difference");
    edits.push_back(
        Value::map({{"stage", line.at("stage")},
                    {"epoch", line.at("epoch")},
                    {"step", line.at("step")},
                    {"text", text},
                    {"params", Value(Value::List{line.at("before").at("params"), line.at("after").at("params")})},
                    {"macs", Value(Value::List{line.at("before").at("macs"), line.at("after").at("macs")})},
                    {"difference", difference ? *difference : Value()}}));
  }
  return edits;
}

// What makes the run again.
std::string command_of(const StoredRun& run) {
  const std::string& recipe = run.source.empty() ? (run.folder / "recipe.yaml").string() : run.source;
  std::string command = "espalier run " + shell_word(recipe);
  if (!run.scale.empty()) command += " --scale " + run.scale;
  if (label_of(run).empty() && run.seed != 0) command += " --seed " + std::to_string(run.seed);
  return command;
}

Value run_of(const StoredRun& r, Store& store) {
  const Place place = place_of(r);
  const std::string label = label_of(r);
  Value v = Value::map({{"id", r.id},
                        {"folder", r.folder.string()},
                        {"name", r.name},
                        {"label", label},
                        {"group", r.name + (without_seed(label).empty() ? "" : "/" + without_seed(label))},
                        {"paper", place.paper},
                        {"section", place.section},
                        {"recipe", r.source.empty() ? r.name : fs::path(r.source).stem().string()},
                        {"scale", r.scale},
                        {"seed", r.seed},
                        {"status", status_now(r)},
                        {"error", r.error}});
  const Value* description = r.recipe().find("description");
  v["description"] = description ? *description : Value("");
  v["command"] = command_of(r);
  v["machine"] = r.value("cpu");
  for (const char* key :
       {"test", "best", "loss", "params", "macs", "base_params", "base_macs", "train_cost", "seconds"})
    v[key] = r.value(key == std::string("test") ? "metric" : key);
  v["metrics"] = Value::map();
  v["measured"] = Value::map();
  if (const std::optional<Summary>& s = r.summary()) {
    if (s->result) {
      v["metric"] = s->result->leading.name;
      v["unit"] = s->result->leading.unit;
      v["larger_is_better"] = s->result->leading.larger_is_better;
      for (const auto& [name, value] : s->result->metrics) v["metrics"][name] = number(value);
    }
    for (const StageSummary& stage : s->stages) {
      for (const auto& [name, value] : stage.measured) v["measured"][stage.name + "." + name] = number(value);
    }
    v["expect"] = s->expect;
  }
  v["epochs"] = curves_of(store.epochs(r));
  v["edits"] = edits_of(store.edits(r));
  return v;
}

// {mean, deviation, n}; null of no number.
Value over_runs(const std::vector<double>& numbers) {
  if (numbers.empty()) return {};
  const auto n = static_cast<double>(numbers.size());
  double mean = 0, squares = 0;
  for (const double x : numbers) mean += x / n;
  for (const double x : numbers) squares += (x - mean) * (x - mean);
  return Value::map({{"mean", number(mean)},
                     {"deviation", numbers.size() > 1 ? number(std::sqrt(squares / (n - 1))) : Value()},
                     {"n", static_cast<int64_t>(numbers.size())}});
}

Value group_of(const std::vector<const StoredRun*>& members, const std::vector<const Value*>& lines) {
  const Value& first = *lines.front();
  Value g = Value::map();
  for (const char* key : {"group", "name", "label", "paper", "section", "recipe", "scale", "description", "metric",
                          "unit", "larger_is_better"}) {
    if (const Value* v = first.find(key)) g[key] = *v;
  }
  g["label"] = without_seed(first.at("label").as_string());
  Value seeds = Value::list(), ids = Value::list();
  std::map<std::string, int64_t> statuses;
  for (const Value* line : lines) {
    seeds.push_back(line->at("seed"));
    ids.push_back(line->at("id"));
    ++statuses[line->at("status").as_string()];
  }
  g["seeds"] = seeds;
  g["runs"] = ids;
  std::string status;
  for (const auto& [name, n] : statuses) {
    status += (status.empty() ? "" : ", ") + (statuses.size() > 1 ? std::to_string(n) + " " : "") + name;
  }
  g["status"] = status;
  const auto numbers_of = [&](const std::string& key) {
    std::vector<double> numbers;
    for (const StoredRun* r : members) {
      const Value v = r->value(key);
      if (v.is_number()) numbers.push_back(v.as_double());
    }
    return numbers;
  };
  for (const char* key : {"metric", "best", "params", "macs", "train_cost", "seconds"})
    g[key == std::string("metric") ? "test" : key] = over_runs(numbers_of(key));
  Value expect = Value::list();
  const std::optional<Summary>& summary = members.front()->summary();
  if (summary && !summary->expect.is_null()) {
    for (const Value::Entry& e : summary->expect.as_map()) {
      Value line = Value::map({{"metric", e.key}, {"value", e.value.at("value")}, {"within", e.value.at("within")}});
      const Value found = over_runs(numbers_of(e.key));
      line["found"] = found;
      line["met"] =
          !found.is_null() && !found.at("mean").is_null() &&
          std::abs(found.at("mean").as_double() - e.value.at("value").as_double()) <= e.value.at("within").as_double();
      expect.push_back(std::move(line));
    }
  }
  g["expect"] = expect;
  return g;
}

// The numbers that papers print and that no run makes: SECTION-...-quoted.json beside the recipes.
Value quoted_for(const std::vector<StoredRun>& runs) {
  std::map<fs::path, std::set<std::string>> folders;  // with the sections that have runs
  for (const StoredRun& r : runs) {
    if (!r.source.empty()) folders[fs::path(r.source).parent_path()].insert(place_of(r).section);
  }
  Value all = Value::list();
  for (const auto& [folder, sections] : folders) {
    std::error_code none;
    std::vector<fs::path> files;
    for (const fs::directory_entry& e : fs::directory_iterator(folder, none)) {
      const std::string name = e.path().filename().string();
      if (name.ends_with("-quoted.json") && sections.contains(name.substr(0, name.find('-'))))
        files.push_back(e.path());
    }
    std::ranges::sort(files);
    for (const fs::path& file : files) {
      const Value tree = from_json(read_file(file), file.string());
      const std::string stem = file.stem().string();
      Value rows = Value::list();
      for (const Value::Entry& e : tree.as_map()) {
        if (e.key != "source") rows.push_back(Value::map({{"name", e.key}, {"points", e.value}}));
      }
      all.push_back(Value::map({{"paper", folder.filename().string()},
                                {"section", stem.substr(0, stem.find('-'))},
                                {"source", tree.find("source") ? tree.at("source") : Value(file.string())},
                                {"rows", rows}}));
    }
  }
  return all;
}

}  // namespace

namespace {

// Of a record of `espalier reproduce`, whose runs lie beside it, the folder of both; any other folder itself.
fs::path folder_of_runs(const fs::path& path) {
  return fs::exists(path / "runs.json") ? fs::absolute(path / "..").lexically_normal() : path;
}

}  // namespace

std::vector<StoredRun> runs_at(Store& store, const std::vector<fs::path>& paths) {
  for (const fs::path& path : paths) {
    std::set<fs::path> found;
    if (fs::exists(path / "runs.json")) {
      const fs::path out = folder_of_runs(path);
      const Value all = recorded(path / "runs.json");
      for (const Value& run : all.at("runs").as_list()) {
        const fs::path folder = out / run.at("run").as_string();
        if (is_run_folder(folder)) found.insert(folder);
      }
    } else {
      found = run_folders_in(path);
      if (found.size() > 1) {  // without those that other runs took the place of
        std::erase_if(found,
                      [](const fs::path& f) { return f.filename().string().find(".before-") != std::string::npos; });
      }
    }
    if (found.empty()) throw InputError(path.string(), "holds no run");
    for (const fs::path& folder : found) {
      try {
        store.update(folder);
      } catch (const Error& e) {
        log::warning(e.what());
      }
    }
  }
  return store.runs();
}

namespace {

// FOLDER/figures/PAPER-SECTION/NAME with this extension; one of more bytes than `most` is left out with a warning.
std::vector<fs::path> picture_files(const std::vector<fs::path>& paths, const char* extension, uintmax_t most) {
  std::set<fs::path> files;
  for (const fs::path& path : paths) {
    std::error_code none;
    for (const fs::directory_entry& place : fs::directory_iterator(folder_of_runs(path) / "figures", none)) {
      if (!place.is_directory()) continue;
      for (const fs::directory_entry& e : fs::directory_iterator(place.path(), none)) {
        if (e.path().extension() == extension) files.insert(e.path());
      }
    }
  }
  std::vector<fs::path> fitting;
  for (const fs::path& file : files) {
    if (fs::file_size(file) <= most) {
      fitting.push_back(file);
    } else {
      log::warning(file.string() + " is larger than " + std::to_string(most / 1'000'000) +
                   " MB and is not shown; the file itself can be looked at");
    }
  }
  return fitting;
}

}  // namespace

std::string report_events(const Value& report, const std::vector<fs::path>& paths) {
  constexpr uintmax_t most = 8'000'000;
  const double now = wall_time();
  std::string events = event_file_start(now) + text_event(now, 0, "report", report_markdown(report));
  for (const fs::path& file : picture_files(paths, ".png", most)) {
    try {
      events +=
          picture_event(now, 0, file.parent_path().filename().string() + "/" + file.stem().string(), read_file(file));
    } catch (const Error& e) {
      log::warning(file.string() + ": " + e.what());
    }
  }
  return events;
}

Value pictures_at(const std::vector<fs::path>& paths) {
  // Larger ones, of thousands of kernels say, would make a page that no browser likes.
  constexpr uintmax_t most = 2'000'000;
  Value all = Value::list();
  for (const fs::path& file : picture_files(paths, ".svg", most)) {
    const std::string place = file.parent_path().filename().string();  // "003-f4"
    const size_t dash = place.find('-');
    all.push_back(Value::map({{"paper", place.substr(0, dash)},
                              {"section", dash == std::string::npos ? "" : place.substr(dash + 1)},
                              {"name", file.stem().string()},
                              {"svg", read_file(file)}}));
  }
  return all;
}

Value report_of(const std::vector<StoredRun>& runs, Store& store, const Value& pictures) {
  const auto now = static_cast<std::time_t>(wall_time());
  std::tm local{};
  localtime_r(&now, &local);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M", &local);
  Value lines = Value::list();
  for (const StoredRun& r : runs) lines.push_back(run_of(r, store));

  // In the order of their places, then as they are called.
  struct Member {
    const StoredRun* run;
    const Value* line;
  };
  std::map<std::vector<std::string>, std::vector<Member>> groups;
  for (size_t i = 0; i < runs.size(); ++i) {
    const Value& line = lines.as_list()[i];
    groups[{line.at("paper").as_string(), line.at("section").as_string(), line.at("group").as_string()}].push_back(
        {&runs[i], &line});
  }
  Value of_groups = Value::list();
  for (auto& [key, members] : groups) {
    std::ranges::sort(members, {}, [](const Member& m) { return m.run->seed; });
    std::vector<const StoredRun*> of_group;
    std::vector<const Value*> of_lines;
    for (const Member& m : members) {
      of_group.push_back(m.run);
      of_lines.push_back(m.line);
    }
    of_groups.push_back(group_of(of_group, of_lines));
  }
  return Value::map({{"made", std::string(date)},
                     {"runs", lines},
                     {"groups", of_groups},
                     {"quoted", quoted_for(runs)},
                     {"pictures", pictures}});
}

}  // namespace espalier
