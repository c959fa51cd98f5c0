#include "commands/runs.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "espalier/error.h"
#include "espalier/log.h"
#include "record/progress.h"
#include "store/csv.h"
#include "store/filter.h"
#include "store/store.h"
#include "system/files.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

struct RunsOptions {
  std::string store;
  std::vector<std::string> runs, filters;
  std::string sort = "began", output;
  int64_t limit = 50;
  bool json = false, all = false, epochs = false, with_folder = false, up = false,
       csv = true;  // there is no other form yet
};

fs::path store_file(const RunsOptions& o) {
  if (!o.store.empty()) return o.store;
  const std::optional<fs::path> file = Store::default_file();
  if (!file) throw InputError("ESPALIER_STORE", "is `none`: no runs are kept; --store FILE names a store");
  return *file;
}

// A store that is only read is not made by reading it.
std::unique_ptr<Store> existing_store(const RunsOptions& o) {
  const fs::path file = store_file(o);
  if (!fs::exists(file)) {
    throw InputError(file.string(),
                     "there is no store of runs yet: every `espalier run` adds to it, and `espalier runs rebuild "
                     "FOLDER...` takes in runs that are there");
  }
  return std::make_unique<Store>(file);
}

std::string date_of(double seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm local{};
  localtime_r(&time, &local);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local)};
}

// "quickstart"; of a matrix "003-f1-beta/beta=0.5".
std::string name_of(const StoredRun& r) {
  return r.folder.parent_path().filename() == r.name ? r.name + "/" + r.folder.filename().string() : r.name;
}

std::string metric_of(const StoredRun& r) {
  if (!r.summary() || !r.summary()->result) return "";
  const RunResult& result = *r.summary()->result;
  return result.leading.name + " " + metric_text(result.metrics.front().second, result.leading.unit);
}

std::string count_of(const StoredRun& r, const char* key) {
  const Value v = r.value(key);
  return v.is_null() ? "" : count_text(v.as_int());
}

// Whether a recipe's `expect` was met: "2 of 3"; empty where it has none.
std::string met_of(const StoredRun& r) {
  if (!r.summary() || r.summary()->expect.is_null()) return "";
  size_t met = 0;
  const Value::Map& all = r.summary()->expect.as_map();
  for (const Value::Entry& e : all) met += e.value.at("met").as_bool() ? 1 : 0;
  return std::to_string(met) + " of " + std::to_string(all.size());
}

Value line_of(const StoredRun& r) {
  Value line = Value::map();
  for (const std::string& key : stored_keys()) line[key] = r.value(key);
  line["status"] = status_now(r);
  line["metrics"] = Value::map();
  if (r.summary() && r.summary()->result) {
    for (const auto& [name, value] : r.summary()->result->metrics) line["metrics"][name] = value;
    line["metric_name"] = r.summary()->result->leading.name;
  }
  if (r.summary() && !r.summary()->expect.is_null()) line["expect"] = r.summary()->expect;
  return line;
}

void sort_by(std::vector<StoredRun>& runs, const std::string& key, bool up) {
  require_known(runs, key);
  const auto before = [](const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) return a.as_double() < b.as_double();
    const auto text = [](const Value& v) { return v.is_string() ? v.as_string() : to_json(v); };
    return text(a) < text(b);
  };
  std::vector<std::pair<Value, size_t>> order;
  for (size_t i = 0; i < runs.size(); ++i) order.emplace_back(runs[i].value(key), i);
  // Runs without the value are last either way.
  std::ranges::stable_sort(order, [&](const auto& a, const auto& b) {
    if (a.first.is_null() || b.first.is_null()) return !a.first.is_null() && b.first.is_null();
    return up ? before(a.first, b.first) : before(b.first, a.first);
  });
  std::vector<StoredRun> sorted;
  for (const auto& [value, i] : order) sorted.push_back(std::move(runs[i]));
  runs = std::move(sorted);
}

void list(const RunsOptions& o) {
  std::vector<StoredRun> runs = filtered(existing_store(o)->runs(), o.filters);
  sort_by(runs, o.sort, o.up);
  const size_t found = runs.size();
  const auto limit = static_cast<size_t>(o.limit);
  if (!o.all && !o.json && found > limit) runs.erase(runs.begin() + o.limit, runs.end());
  if (o.json) {
    Value lines = Value::list();
    for (const StoredRun& r : runs) lines.push_back(line_of(r));
    std::cout << to_json(lines, 1) << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows{
      {"id", "began", "run", "seed", "status", "test", "params", "MACs", "expected met", "time"}};
  for (const StoredRun& r : runs) {
    rows.push_back({r.id, date_of(r.began), name_of(r), std::to_string(r.seed), status_now(r), metric_of(r),
                    count_of(r, "params"), count_of(r, "macs"), met_of(r),
                    r.seconds > 0 ? Progress::duration(r.seconds) : ""});
  }
  std::cout << table(rows, 0);
  if (found > runs.size()) {
    std::cout << "and " << count_text(static_cast<int64_t>(found - runs.size()))
              << " more: --all shows all, --filter fewer\n";
  }
  if (found == 0) std::cout << (o.filters.empty() ? "no runs\n" : "no run for which all of this holds\n");
}

// Of the lines of metrics.jsonl the columns that say most.
std::string epochs_text(const Value& epochs) {
  if (epochs.size() == 0) return "no epochs yet\n";
  std::vector<std::string> keys;
  for (const Value& line : epochs.as_list()) {
    for (const Value::Entry& e : line.as_map()) {
      const bool wanted = e.key == "stage" || e.key == "epoch" || e.key == "lr" || e.key.ends_with("loss") ||
                          e.key.starts_with("test_") || e.key.starts_with("validation_") || e.key == "params";
      if (wanted && std::ranges::count(keys, e.key) == 0) keys.push_back(e.key);
    }
  }
  std::vector<std::vector<std::string>> rows{keys};
  for (const Value& line : epochs.as_list()) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const std::string& key : keys) {
      const Value* v = line.find(key);
      row.push_back(!v || v->is_null()            ? ""
                    : v->is_string()              ? v->as_string()
                    : v->is(Value::Kind::integer) ? count_text(v->as_int())
                    : v->is_number()              ? metric_text(v->as_double(), "")
                                                  : to_json(*v));
    }
  }
  return table(rows, 0);
}

void show(const RunsOptions& o) {
  const std::unique_ptr<Store> store = existing_store(o);
  const std::vector<StoredRun> runs = store->runs();
  const StoredRun& r = run_called(runs, o.runs.front());
  if (o.json) {
    Value v = line_of(r);
    v["recipe_text"] = r.recipe();
    v["environment"] = r.environment();
    v["epochs"] = store->epochs(r);
    v["edits"] = store->edits(r);
    std::cout << to_json(v, 1) << "\n";
    return;
  }
  std::cout << r.name << ", seed " << r.seed << ": " << status_now(r) << (r.error.empty() ? "" : "\n" + r.error)
            << "\n\n";
  const auto say = [](const std::string& what, const std::string& value) {
    if (!value.empty()) std::cout << what << ": " << value << "\n";
  };
  const auto text = [&](const char* key) {
    const Value v = r.value(key);
    return v.is_string() ? v.as_string() : std::string();
  };
  say("id", r.id);
  say("folder", r.folder.string());
  say("recipe", r.source);
  say("scale", r.scale);
  say("began", date_of(r.began));
  say("test", metric_of(r));
  say("params", count_of(r, "params"));
  say("MACs", count_of(r, "macs"));
  say("expected met", met_of(r));
  say("processor", text("cpu"));
  say("program", text("version"));
  const Value edits = store->edits(r);
  say("edits of the structure", edits.size() == 0 ? "" : std::to_string(edits.size()));
  std::cout << "\n" << epochs_text(store->epochs(r)) << "\nMore of it: espalier show " << r.folder.string() << "\n";
}

// Every leaf of a recipe by its path; items of a list by their names where they have any.
void flatten(const Value& v, const std::string& path, std::map<std::string, std::string>& to) {
  const auto join = [&](const std::string& step) { return path.empty() ? step : path + "." + step; };
  if (v.is_map() && v.size() > 0) {
    for (const Value::Entry& e : v.as_map()) flatten(e.value, join(e.key), to);
  } else if (v.is_list() && v.size() > 0 && std::ranges::all_of(v.as_list(), &Value::is_map)) {
    for (size_t i = 0; i < v.size(); ++i) {
      const Value* name = v.as_list()[i].find("name");
      flatten(v.as_list()[i], join(name && name->is_string() ? name->as_string() : std::to_string(i)), to);
    }
  } else {
    to[path] = v.is_string() ? v.as_string() : to_json(v);
  }
}

std::vector<std::vector<std::string>> differing(const Value& a, const Value& b) {
  std::map<std::string, std::string> left, right;
  flatten(a, "", left);
  flatten(b, "", right);
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : left) {
    const auto other = right.find(key);
    if (other == right.end()) {
      rows.push_back({key, value, ""});
    } else if (other->second != value) {
      rows.push_back({key, value, other->second});
    }
  }
  for (const auto& [key, value] : right) {
    if (!left.contains(key)) rows.push_back({key, "", value});
  }
  return rows;
}

Value machine_of(const StoredRun& r) {
  Value v = Value::map();
  for (const char* key : {"espalier", "torch", "device", "cpu", "threads", "isa"}) {
    if (const Value* found = r.environment().find(key)) v[key] = *found;
  }
  return v;
}

void compare(const RunsOptions& o) {
  const std::vector<StoredRun> runs = existing_store(o)->runs();
  const StoredRun& a = run_called(runs, o.runs[0]);
  const StoredRun& b = run_called(runs, o.runs[1]);
  std::vector<std::vector<std::string>> numbers{{"", name_of(a), name_of(b), "difference"}};
  std::vector<std::string> keys;
  for (const StoredRun* r : {&a, &b}) {
    if (!r->summary() || !r->summary()->result) continue;
    for (const auto& [name, value] : r->summary()->result->metrics) {
      if (std::ranges::count(keys, name) == 0) keys.push_back(name);
    }
  }
  for (const char* key : {"best", "loss", "params", "macs", "train_cost", "seconds"}) keys.emplace_back(key);
  for (const std::string& key : keys) {
    const Value x = a.value(key), y = b.value(key);
    const auto text = [](const Value& v) {
      return !v.is_number() ? "" : v.is(Value::Kind::integer) ? count_text(v.as_int()) : metric_text(v.as_double(), "");
    };
    const bool both = x.is_number() && y.is_number();
    numbers.push_back({key, text(x), text(y), both ? metric_text(y.as_double() - x.as_double(), "") : std::string()});
  }
  const std::vector<std::vector<std::string>> recipes = differing(a.recipe(), b.recipe()),
                                              machines = differing(machine_of(a), machine_of(b));
  if (o.json) {
    const auto as_value = [](const std::vector<std::vector<std::string>>& rows) {
      Value list = Value::list();
      for (const auto& row : rows) list.push_back(Value::map({{"key", row[0]}, {"first", row[1]}, {"second", row[2]}}));
      return list;
    };
    std::cout << to_json(Value::map({{"first", line_of(a)},
                                     {"second", line_of(b)},
                                     {"recipe", as_value(recipes)},
                                     {"machine", as_value(machines)}}),
                         1)
              << "\n";
    return;
  }
  std::cout << "first:  " << a.id << "  " << a.folder.string() << ", " << status_now(a) << "\nsecond: " << b.id << "  "
            << b.folder.string() << ", " << status_now(b) << "\n\n"
            << number_table(numbers);
  const auto say = [](const std::string& what, std::vector<std::vector<std::string>> rows) {
    if (rows.empty()) {
      std::cout << "\n" << what << ": the same\n";
      return;
    }
    rows.insert(rows.begin(), {what, "first", "second"});
    std::cout << "\n" << table(rows, 0);
  };
  say("recipe", recipes);
  say("machine", machines);
}

void remove(const RunsOptions& o) {
  const std::unique_ptr<Store> store = existing_store(o);
  std::vector<StoredRun> runs = store->runs();
  if (o.runs.empty() == o.filters.empty()) throw InputError("", "give the runs to remove, or --filter, and not both");
  std::vector<const StoredRun*> meant;
  if (!o.filters.empty()) runs = filtered(std::move(runs), o.filters);
  for (const std::string& what : o.runs) meant.push_back(&run_called(runs, what));
  for (size_t i = 0; !o.filters.empty() && i < runs.size(); ++i) meant.push_back(&runs[i]);
  for (const StoredRun* r : meant) {
    if (status_now(*r) == "running") {
      throw InputError(r->folder.string(), "is at work and is not removed, nor is any other; stop it first");
    }
  }
  for (const StoredRun* r : meant) {
    if (o.with_folder && fs::exists(r->folder)) fs::remove_all(r->folder);
    store->forget(*r);
    std::cout << r->id << "  " << r->folder.string()
              << (o.with_folder ? "  removed, with its folder\n" : "  removed\n");
  }
  if (meant.empty()) std::cout << "no run for which all of this holds\n";
}

void export_csv(const RunsOptions& o) {
  const std::unique_ptr<Store> store = existing_store(o);
  const std::vector<StoredRun> runs = filtered(store->runs(), o.filters);
  std::string text;
  if (o.epochs) {
    std::vector<std::pair<const StoredRun*, Value>> lines;
    for (const StoredRun& r : runs) {
      const Value epochs = store->epochs(r);
      for (const Value& line : epochs.as_list()) lines.emplace_back(&r, line);
    }
    text = epochs_csv(lines);
  } else {
    std::vector<Value> lines;
    lines.reserve(runs.size());
    for (const StoredRun& r : runs) lines.push_back(line_of(r));
    text = runs_csv(lines);
  }
  if (o.output.empty()) {
    std::cout << text;
  } else {
    write_file(o.output, text);
    std::cout << o.output << "\n";
  }
}

void rebuild(const RunsOptions& o) {
  std::vector<fs::path> folders(o.runs.begin(), o.runs.end());
  if (folders.empty() && fs::is_directory("runs")) folders.emplace_back("runs");
  const fs::path file = store_file(o);
  const int64_t n = rebuild_store(file, folders, [](const std::string& reason) { log::warning(reason); });
  std::cout << file.string() << ": " << count_text(n) << (n == 1 ? " run\n" : " runs\n");
}

void add_filters(CLI::App& command, RunsOptions& o) {
  command
      .add_option("--filter", o.filters,
                  "Only runs for which this holds, as often as needed: 'accuracy>=90', 'name=003-*', status=finished, "
                  "stages.train.epochs=3")
      ->type_name("CONDITION")
      ->allow_extra_args(false);
}

}  // namespace

void add_runs_command(CLI::App& app) {
  CLI::App* runs = app.add_subcommand("runs", "Lists, compares and exports all runs that were made");
  runs->require_subcommand(1);
  auto o = std::make_shared<RunsOptions>();
  runs->add_option("--store", o->store,
                   "The store of runs (default: $ESPALIER_STORE, else espalier/runs.sqlite in $XDG_DATA_HOME or "
                   "~/.local/share)")
      ->type_name("FILE");

  CLI::App* list_command = runs->add_subcommand("list", "Lists runs, those that began last first");
  add_filters(*list_command, *o);
  list_command->add_option("--sort", o->sort, "The value that orders them, largest first (default: began)")
      ->type_name("KEY");
  list_command->add_flag("--up", o->up, "Smallest first");
  list_command->add_option("--limit", o->limit, "How many are shown (default: 50)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  list_command->add_flag("--all", o->all, "Shows all, however many there are");
  list_command->add_flag("--json", o->json, "Prints JSON: a map for each run");
  list_command->callback([o] { list(*o); });

  const auto add_run = [&](CLI::App* command, int n) {
    command->add_option("run", o->runs, "The folder, the id (or its first digits) or the only run of this name")
        ->required()
        ->expected(n)
        ->type_name("RUN");
  };
  CLI::App* show_command = runs->add_subcommand("show", "Shows what the store knows of a run, epoch by epoch");
  add_run(show_command, 1);
  show_command->add_flag("--json", o->json, "Prints JSON, with the recipe, the epochs and the edits");
  show_command->callback([o] { show(*o); });

  CLI::App* compare_command =
      runs->add_subcommand("compare", "Shows what differs between two runs: results, recipe, machine");
  add_run(compare_command, 2);
  compare_command->add_flag("--json", o->json, "Prints JSON: {first, second, recipe, machine}");
  compare_command->callback([o] { compare(*o); });

  CLI::App* rm_command = runs->add_subcommand("rm", "Forgets runs; their folders stay unless --with-folder is given");
  rm_command->add_option("run", o->runs, "The folders, ids or names")->type_name("RUN...");
  add_filters(*rm_command, *o);
  rm_command->add_flag("--with-folder", o->with_folder, "Deletes the folders of the runs, too");
  rm_command->callback([o] { remove(*o); });

  CLI::App* export_command = runs->add_subcommand("export", "Writes runs as a table for other programs");
  export_command->add_flag("--csv", o->csv, "As comma-separated values (the default)");
  export_command->add_flag("--epochs", o->epochs, "A row for each epoch of each run, instead of one for each run");
  export_command->add_option("-o,--output", o->output, "The file (default: standard output)")->type_name("FILE");
  add_filters(*export_command, *o);
  export_command->callback([o] { export_csv(*o); });

  CLI::App* rebuild_command =
      runs->add_subcommand("rebuild", "Makes the store anew from the folders of runs, also where it is damaged");
  rebuild_command->add_option("folder", o->runs, "Folders that hold runs, however deep (default: runs, if it is there)")
      ->type_name("FOLDER...");
  rebuild_command->callback([o] { rebuild(*o); });

  runs->footer(
      "Examples:\n"
      "  espalier runs list --filter 'name=003-*' --filter status=finished --sort accuracy\n"
      "  espalier runs show runs/quickstart-seed0\n"
      "  espalier runs compare runs/quickstart-seed0 runs/quickstart-seed1\n"
      "  espalier runs export --csv --epochs --filter name=quickstart -o epochs.csv\n"
      "  espalier runs rebuild runs /data/old-runs\n");
}

}  // namespace espalier
