#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "espalier/error.h"
#include "plan/plan.h"
#include "recipe/overrides.h"
#include "recipe/recipe.h"
#include "recipe/references.h"
#include "recipe/yaml.h"
#include "reproduce/reproduction.h"
#include "store/filter.h"
#include "sweep/matrix.h"

namespace espalier {

namespace fs = std::filesystem;

std::string to_string(JobStatus status) {
  switch (status) {
    case JobStatus::waiting:
      return "waiting";
    case JobStatus::submitted:
      return "submitted";
    case JobStatus::there:
      return "there";
    case JobStatus::running:
      return "running";
    case JobStatus::finished:
      return "finished";
    case JobStatus::failed:
      return "failed";
    case JobStatus::interrupted:
      return "interrupted";
    case JobStatus::blocked:
      return "blocked";
    case JobStatus::refused:
      return "refused";
  }
  return "";
}

namespace {

// The YAML files of folders, in order; other paths as they are.
std::vector<fs::path> files_of(const std::vector<fs::path>& paths) {
  std::vector<fs::path> files;
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) throw InputError(path.string(), "there is no such recipe, and no such folder of recipes");
    if (!fs::is_directory(path)) {
      files.push_back(fs::absolute(path).lexically_normal());
      continue;
    }
    std::vector<fs::path> found;
    for (const fs::directory_entry& e : fs::recursive_directory_iterator(path)) {
      const fs::path end = e.path().extension();
      if (e.is_regular_file() && (end == ".yaml" || end == ".yml"))
        found.push_back(fs::absolute(e.path()).lexically_normal());
    }
    if (found.empty()) throw InputError(path.string(), "holds no recipe: no file that ends in .yaml");
    std::ranges::sort(found);
    files.insert(files.end(), found.begin(), found.end());
  }
  std::vector<fs::path> once;
  for (const fs::path& f : files) {
    if (std::ranges::find(once, f) == once.end()) once.push_back(f);
  }
  return once;
}

// Whether a file is a recipe of its own, rather than what recipes extend.
bool is_recipe(const Value& tree) {
  return tree.is_map() && tree.find("name") && tree.find("stages") && tree.find("network");
}

// A path that leads to the run of a needed recipe, in the common folder. `own` and `seed`: the recipe's seed and the
// job's.
class Redirection {
 public:
  Redirection(std::vector<NeededRecipe> needed, fs::path out, int64_t own, int64_t seed)
      : needed_(std::move(needed)), out_(std::move(out)), own_(own), seed_(seed) {}

  // Of the strings of a recipe as it was read; those under `name`, `description` and `needs` are none.
  void apply(Value& tree) {
    for (Value::Entry& e : tree.as_map()) {
      if (e.key != "name" && e.key != "description" && e.key != "needs") visit(e.value);
    }
  }
  // Where the strings lead now.
  const std::vector<fs::path>& found() const { return found_; }

 private:
  void visit(Value& v) {
    if (v.is_map()) {
      for (Value::Entry& e : v.as_map()) visit(e.value);
    } else if (v.is_list()) {
      for (Value& e : v.as_list()) visit(e);
    } else if (v.is_string()) {
      redirect(v);
    }
  }

  void redirect(Value& v) {
    const std::string& text = v.as_string();
    if (text.find('/') == std::string::npos) return;
    const bool in_file = v.location.file && !is_from_command_line(v.location);
    const fs::path base = in_file ? fs::path(*v.location.file).parent_path() : fs::path();
    const fs::path path = fs::absolute(base / text).lexically_normal();
    const std::optional<Maker> maker = maker_of(path, needed_);
    if (!maker) return;
    fs::path to = out_;
    bool below = false;
    for (const fs::path& part : path) {
      const std::string name = part.string();
      below = below || is_called(name, maker->recipe->name);
      if (!below) continue;
      const std::string end = "-seed" + std::to_string(own_);
      const bool follows = seed_ != own_ && name.ends_with(end);
      to /= follows ? name.substr(0, name.size() - end.size()) + "-seed" + std::to_string(seed_) : name;
    }
    const Location where = v.location;
    v = to.string();
    v.location = where;
    found_.push_back(to);
  }

  std::vector<NeededRecipe> needed_;
  fs::path out_;
  int64_t own_, seed_;
  std::vector<fs::path> found_;
};

// Multiply-accumulates of all steps of all stages, as far as a plan knows.
std::optional<double> training_macs(const Value& plan) {
  double macs = 0;
  for (const Value& stage : plan.at("stages").as_list()) {
    if (stage.at("epochs").as_int() == 0) continue;
    const Value& step = stage.at("step");
    if (step.is_null() || step.at("steps").as_int() == 0) return std::nullopt;
    macs += stage.at("epochs").as_double() * step.at("steps").as_double() * step.at("macs").as_double();
  }
  return macs > 0 ? std::optional(macs) : std::nullopt;
}

class Planner {
 public:
  Planner(const ReproduceOptions& options, const Registry& registry)
      : options_(options), registry_(registry), out_(fs::absolute(options.out).lexically_normal()) {
    all_.name = "reproduce" + (options.scale.empty() ? "" : "-" + options.scale);
    for (const std::string& f : options.filters) filters_.emplace_back(f);
  }

  Reproduction plan() {
    for (const fs::path& file : files_of(options_.paths)) take(file, /*selected=*/true);
    if (all_.jobs.empty()) {
      std::string notes;
      for (const std::string& n : all_.notes) notes += "\n  " + n;
      throw InputError("", "no run is left to reproduce" + notes);
    }
    order();
    return std::move(all_);
  }

 private:
  // All runs of a recipe, and before them those of the recipes that it needs.
  void take(const fs::path& file, bool selected) {
    if (!taken_.insert(file).second) return;
    Value tree;
    std::vector<NeededRecipe> needed;
    try {
      const Value plain = read_recipe(file, {}, "");
      if (!is_recipe(plain)) {
        if (!selected || !fs::is_directory(options_.paths.front()))
          note(file, "is passed over: it is no recipe, but what recipes extend");
        return;
      }
      const std::vector<std::string> scales = scales_of(file);
      if (!options_.scale.empty() && std::ranges::count(scales, options_.scale) == 0) {
        note(file, "is passed over: it has no scale '" + options_.scale + "'");
        return;
      }
      tree = read_recipe(file, {}, options_.scale);
      needed = needed_recipes(tree);
    } catch (const Error& e) {
      refuse(file, file.stem().string(), 0, e.what());
      return;
    }
    const size_t before = all_.jobs.size();
    add_jobs(file, tree, needed, selected);
    if (all_.jobs.size() == before) return;
    for (const NeededRecipe& n : needed) {
      if (taken_.contains(n.path)) continue;
      note(n.path, "is added, since " + file.filename().string() + " needs its runs");
      take(n.path, /*selected=*/false);
    }
  }

  void note(const fs::path& file, const std::string& what) {
    const std::string near = fs::proximate(file).string();
    all_.notes.push_back((near.starts_with("..") ? file.string() : near) + " " + what);
  }

  void refuse(const fs::path& file, const std::string& name, int64_t seed, const std::string& why) {
    Job job;
    job.name = job.recipe = name;
    job.source = file;
    job.seed = seed;
    job.status = JobStatus::refused;
    job.error = why;
    add(std::move(job), {});
  }

  void add_jobs(const fs::path& file, const Value& tree, const std::vector<NeededRecipe>& needed, bool selected) {
    const Value* given = tree.find("seed");
    const int64_t own = given && given->is(Value::Kind::integer) ? given->as_int() : 0;
    const std::string name = tree.at("name").as_string();
    std::vector<MatrixPoint> points;
    try {
      points = matrix_points(tree);
    } catch (const Error& e) {
      refuse(file, name, own, e.what());
      return;
    }
    const auto varies_seed = [](const MatrixPoint& p) { return p.values.find("seed") != nullptr; };
    const bool own_seeds = std::ranges::any_of(points, varies_seed);
    const std::vector<int64_t> seeds = options_.seeds.empty() || own_seeds ? std::vector{own} : options_.seeds;
    if (own_seeds && !options_.seeds.empty() && selected) note(file, "has seeds in its matrix, and keeps them");
    for (const int64_t seed : seeds) {
      Value seeded = tree;
      seeded["seed"] = seed;
      if (points.empty()) {
        seeded.erase("matrix");
        add_job(file, seeded, name + "-seed" + std::to_string(seed), "", Value::map(), needed, own, selected);
        continue;
      }
      const std::string sweep = name + (seed == own ? "" : "-seed" + std::to_string(seed));
      const size_t before = all_.jobs.size();
      for (const MatrixPoint& point : points) {
        Value at;
        try {
          at = recipe_at(seeded, point);
        } catch (const Error& e) {
          refuse(file, sweep + "/" + point.name, seed, e.what());
          continue;
        }
        add_job(file, at, (fs::path(sweep) / point.name).string(), sweep, point.values, needed, own, selected);
      }
      if (all_.jobs.size() > before) all_.sweeps.push_back({sweep, seeded, file});
    }
  }

  void add_job(const fs::path& file, const Value& tree, const std::string& name, const std::string& sweep,
               const Value& values, const std::vector<NeededRecipe>& needed, int64_t own, bool selected) {
    Job job;
    job.name = name;
    job.source = file;
    job.sweep = sweep;
    job.values = values;
    job.recipe = tree.at("name").as_string();
    const Value* seed = tree.find("seed");
    job.seed = seed && seed->is(Value::Kind::integer) ? seed->as_int() : 0;
    if (selected && !filters_.empty()) {
      StoredRun as_run;
      as_run.name = job.recipe;
      as_run.source = file.string();
      as_run.scale = options_.scale;
      as_run.seed = job.seed;
      as_run.texts.recipe = to_json(tree);
      if (!std::ranges::all_of(filters_, [&](const RunFilter& f) { return f.matches(as_run); })) return;
    }
    Redirection redirection(needed, out_, own, job.seed);
    try {
      job.recipe_read = tree;
      redirection.apply(job.recipe_read);
      const Recipe recipe = check_recipe(job.recipe_read, registry_);
      job.tree = recipe.resolved;
      job.macs = training_macs(plan_recipe(recipe, /*with_values=*/false, MissingRuns::noted));
    } catch (const Error& e) {
      // A run that it reads has begun and not ended: what is wrong is seen when it has.
      const auto is_begun = [](const fs::path& run) { return fs::exists(run) && !fs::exists(run / "graph.json"); };
      if (!std::ranges::any_of(redirection.found(), is_begun)) {
        job.status = JobStatus::refused;
        job.error = e.what();
      }
      job.tree = Value();
    }
    add(std::move(job), redirection.found());
  }

  void add(Job job, std::vector<fs::path> reads) {
    const auto same = std::ranges::find(all_.jobs, job.name, &Job::name);
    if (same != all_.jobs.end()) {
      throw InputError(job.source.string(), "would make the run " + job.name + ", and so would " +
                                                same->source.string() + ": give one of them another name");
    }
    all_.jobs.push_back(std::move(job));
    reads_.push_back(std::move(reads));
  }

  // Finds what each job waits for, and puts that before it.
  void order() {
    const size_t n = all_.jobs.size();
    std::vector<std::vector<size_t>> after(n);
    for (size_t i = 0; i < n; ++i) {
      for (const fs::path& path : reads_[i]) {
        bool made = false;
        for (size_t j = 0; j < n; ++j) {
          const fs::path folder = all_.jobs[j].folder(out_);
          const bool makes = lies_in(path, folder) || lies_in(folder, path);
          made = made || makes;
          if (makes && i != j && std::ranges::find(after[i], j) == after[i].end()) after[i].push_back(j);
        }
        Job& job = all_.jobs[i];
        if (made || fs::exists(path) || job.status == JobStatus::refused) continue;
        job.status = JobStatus::blocked;
        job.error = "needs " + path.string() + ", which is not there, and none of these recipes makes it";
      }
    }
    std::vector<size_t> ordered;
    std::vector<int> seen(n, 0);  // 1: at work, 2: done
    const std::function<void(size_t)> visit = [&](size_t i) {
      if (seen[i] == 2) return;
      if (seen[i] == 1) {
        throw InputError(all_.jobs[i].source.string(), "needs, by way of others, its own run " + all_.jobs[i].name);
      }
      seen[i] = 1;
      for (const size_t j : after[i]) visit(j);
      seen[i] = 2;
      ordered.push_back(i);
    };
    for (size_t i = 0; i < n; ++i) visit(i);
    std::vector<size_t> place(n);
    for (size_t i = 0; i < n; ++i) place[ordered[i]] = i;
    std::vector<Job> jobs;
    for (const size_t i : ordered) {
      Job job = std::move(all_.jobs[i]);
      for (const size_t j : after[i]) job.after.push_back(place[j]);
      jobs.push_back(std::move(job));
    }
    all_.jobs = std::move(jobs);
  }

  const ReproduceOptions& options_;
  const Registry& registry_;
  fs::path out_;
  std::vector<RunFilter> filters_;
  std::set<fs::path> taken_;
  Reproduction all_;
  std::vector<std::vector<fs::path>> reads_;  // of each job
};

}  // namespace

Reproduction plan_reproduction(const ReproduceOptions& options, const Registry& registry) {
  return Planner(options, registry).plan();
}

}  // namespace espalier
