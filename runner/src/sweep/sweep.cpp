#include "sweep/sweep.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/registry.h"
#include "plan/plan.h"
#include "recipe/overrides.h"
#include "recipe/yaml.h"
#include "record/progress.h"
#include "record/recorded.h"
#include "sweep/draws.h"
#include "sweep/kept_recipe.h"
#include "sweep/report.h"
#include "system/files.h"
#include "system/new_folder.h"
#include "system/processes.h"
#include "system/terminal.h"
#include "system/text.h"
#include "train/trainer.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

// Held as long as the sweep or a run of it lives: children inherit the descriptor.
class Lock {
 public:
  explicit Lock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY)) {
    if (fd_ < 0) throw Error(folder.string() + ": cannot be opened: " + std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw InputError(folder.string(), "is at work: this sweep, or a run of it, has not ended yet");
    }
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() { ::close(fd_); }

 private:
  int fd_;
};

std::vector<std::string> absolute(const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  for (const std::string& p : paths) result.push_back(fs::absolute(p).lexically_normal().string());
  return result;
}

std::vector<std::string> strings(const Value& list) {
  std::vector<std::string> result;
  for (const Value& v : list.as_list()) result.push_back(v.as_string());
  return result;
}

// What a run said of its end: the last line with "error: ", without what stands before, else the last line.
std::string last_words(const fs::path& output) {
  if (!fs::exists(output)) return "";
  std::string last;
  std::string error;
  std::istringstream text(read_file(output));
  for (std::string line; std::getline(text, line);) {
    if (!line.empty()) last = line;
    if (const size_t at = line.find("error: "); at != std::string::npos) error = line.substr(at + 7);
  }
  return error.empty() ? last : error;
}

// What a run came to; none where it has no summary, or none that can be read.
std::optional<Summary> read_summary(const fs::path& run_folder) {
  try {
    return Summary::read(run_folder);
  } catch (const Error& e) {
    log::warning(e.what());
    return std::nullopt;
  }
}

bool is_finished(const std::optional<Summary>& summary) {
  return summary && summary->is_finished();
}

std::string status_text(int status) {
  return status > 128 ? "was ended by signal " + std::to_string(status - 128) + " (" + ::strsignal(status - 128) + ")"
                      : "ended with status " + std::to_string(status);
}

}  // namespace

std::string error_of_process(int status, const std::optional<Summary>& summary, const fs::path& output) {
  const std::string error = status > 128                         ? ""
                            : summary && !summary->error.empty() ? summary->error
                                                                 : last_words(output);
  return error.empty() ? status_text(status) : error;
}

namespace {

fs::path recipe_file(const fs::path& folder, const std::string& run) {
  return folder / "recipes" / (run + ".yaml");
}

class Sweep {
 public:
  // `threads`: of each run whose recipe leaves them open; 0: all cores.
  Sweep(fs::path folder, SweepOptions options, std::string name, int64_t threads, std::vector<SweepRun> runs)
      : folder_(std::move(folder)),
        options_(std::move(options)),
        name_(std::move(name)),
        threads_(threads),
        runs_(std::move(runs)),
        terminal_(is_terminal()) {}

  // Writes down what the folders of the runs say, and runs nothing.
  void record() {
    find_finished();
    save(todo_.empty() ? "finished" : "interrupted");
  }

  // Runs what has not finished.
  int carry_out() {
    find_finished();
    began_.resize(runs_.size());
    save("running");
    say(name_ + ": " + std::to_string(runs_.size()) + (runs_.size() == 1 ? " run" : " runs") +
        (done_ > 0 ? ", " + std::to_string(done_) + " finished before" : "") + ", " + std::to_string(options_.jobs) +
        " at a time" +
        (threads_ > 0 ? ", with " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads") +
                            " each where the recipe sets none (their number changes results in the last digits)"
                      : "") +
        ", in " + folder_.string());
    ProcessQueue queue;
    queue.count = todo_.size();
    queue.at_a_time = static_cast<size_t>(options_.jobs);
    queue.start = [this](size_t i) { return start(todo_[i]); };
    queue.ended = [this](size_t i, int status) { ended(todo_[i], status); };
    queue.tick = [this](size_t running) { show_progress(running); };
    const int signal = run_processes(queue);
    clear_line();

    const auto failed = std::ranges::count(runs_, "failed", &SweepRun::status);
    const bool unfinished = std::ranges::any_of(runs_, [](const SweepRun& r) { return r.status != "finished"; });
    save(signal != 0 ? "interrupted" : unfinished ? "failed" : "finished");
    const std::string seeds = seeds_table(over_seeds(runs_));
    const std::vector<std::string> front = front_names();
    say("\n" + runs_table(runs_, front) +
        (front.empty() ? ""
                       : "\n*: on the front of " + std::string(options_.front == "macs" ? "MACs" : "parameters") +
                             " and the metric; no other run is as small and as good, and better in one of them\n") +
        (seeds.empty() ? "" : "\nmean ± standard deviation over the seeds\n\n" + seeds));
    if (!options_.quiet && unfinished) say("To go on: espalier resume " + folder_.string());
    say("Sweep folder: " + folder_.string());
    if (failed > 0)
      log::error(std::to_string(failed) + " of " + std::to_string(runs_.size()) + " runs failed: " + folder_.string());
    if (signal != 0) return 128 + signal;
    return unfinished ? 1 : 0;
  }

 private:
  // By what the folders say.
  void find_finished() {
    for (size_t i = 0; i < runs_.size(); ++i) {
      runs_[i].summary = read_summary(folder_ / runs_[i].name);
      if (is_finished(runs_[i].summary)) {
        runs_[i].status = "finished";
      } else {
        runs_[i].status = "waiting";
        todo_.push_back(i);
      }
    }
    done_ = runs_.size() - todo_.size();
  }

  void save(const std::string& status) const {
    Value list = Value::list();
    for (const SweepRun& r : runs_) list.push_back(r.to_value());
    const Value all = Value::map({{"name", name_},
                                  {"source", options_.source},
                                  {"scale", options_.scale},
                                  {"status", status},
                                  {"jobs", options_.jobs},
                                  {"threads", threads_},
                                  {"data", options_.data},
                                  {"plugins", options_.plugins},
                                  {"runs", list},
                                  {"front_size", options_.front},
                                  {"front", front_names()},
                                  {"seeds", over_seeds(runs_)}});
    write_file(folder_ / "sweep.json", to_json(all, 1) + "\n");
  }

  std::vector<std::string> front_names() const { return front_of(runs_, size_of_front(options_.front)); }

  // While a run's folder is not there yet, its output waits beside its recipe.
  fs::path early_output(const SweepRun& r) const { return folder_ / "recipes" / (r.name + ".txt"); }
  fs::path output(const SweepRun& r) const { return folder_ / r.name / "output.txt"; }

  ProcessCommand start(size_t i) {
    SweepRun& r = runs_[i];
    const fs::path run_folder = folder_ / r.name;
    ProcessCommand c;
    c.program = options_.program;
    const fs::path checkpoints = run_folder / "checkpoints";
    const bool resumes = fs::is_directory(checkpoints) && !fs::is_empty(checkpoints);
    if (resumes) {
      c.arguments = {"resume", run_folder.string()};
      c.output = output(r);
    } else {
      // Nothing was trained: what is there would only be in the way.
      fs::remove_all(run_folder);
      fs::remove(early_output(r));
      c.arguments = {"run", recipe_file(folder_, r.name).string(), "--out", run_folder.string()};
      if (!options_.source.empty())
        c.arguments.insert(c.arguments.end(), {"--source", options_.source, "--source-scale", options_.scale});
      c.output = early_output(r);
      r.seconds = 0;
    }
    for (const std::string& d : options_.data) c.arguments.insert(c.arguments.end(), {"--data", d});
    for (const std::string& p : options_.plugins) c.arguments.insert(c.arguments.end(), {"--plugins", p});
    c.arguments.insert(c.arguments.end(), options_.flags.begin(), options_.flags.end());
    r.status = "running";
    r.error.clear();
    began_[i] = Clock::now();
    save("running");
    return c;
  }

  void ended(size_t i, int status) {
    SweepRun& r = runs_[i];
    const double seconds = std::chrono::duration<double>(Clock::now() - began_[i]).count();
    r.seconds += seconds;
    seconds_ += seconds;
    if (fs::exists(early_output(r)) && fs::is_directory(folder_ / r.name)) fs::rename(early_output(r), output(r));

    r.summary = read_summary(folder_ / r.name);
    if (status == 0 && is_finished(r.summary)) {
      r.status = "finished";
    } else if (status == 128 + SIGINT || status == 128 + SIGTERM || status == 128 + SIGHUP) {
      r.status = "interrupted";
    } else {
      r.status = "failed";
      const fs::path text = fs::exists(output(r)) ? output(r) : early_output(r);
      r.error = error_of_process(status, r.summary, text);
      clear_line();
      log::error("the run " + r.name + " failed: " + r.error + " (output: " + text.string() + ")");
    }
    if (r.status != "interrupted") ++done_, ++done_now_;
    save("running");
    if (r.status == "failed") return;
    std::string line = r.name + "  interrupted";
    if (r.status == "finished") {
      line = "[" + std::to_string(done_) + "/" + std::to_string(runs_.size()) + "] " + r.name + "  test " +
             metric_text(r.summary->result->metrics.front().second, r.summary->result->leading.unit) + "  " +
             count_text(r.summary->result->final.params) + " params  " + count_text(r.summary->result->final.macs) +
             " MACs";
    }
    say(line + "  " + Progress::duration(seconds));
  }

  void say(const std::string& text) const {
    if (options_.quiet) return;
    clear_line();
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
  }

  void clear_line() const {
    if (terminal_ && !options_.quiet) std::printf("\r\033[K");
    std::fflush(stdout);
  }

  void show_progress(size_t running) const {
    if (options_.quiet || !terminal_) return;
    constexpr size_t width = 24;
    std::string bar;
    for (size_t i = 0; i < width; ++i) bar += i < width * done_ / runs_.size() ? "━" : "─";
    std::string text = bar + " " + std::to_string(done_) + "/" + std::to_string(runs_.size()) + " runs, " +
                       std::to_string(running) + " running";
    // Of a whole run that is like those before it; of the running ones, half is done.
    if (done_now_ > 0) {
      const double each = seconds_ / static_cast<double>(done_now_);
      const double left = static_cast<double>(runs_.size() - done_) - static_cast<double>(running) / 2;
      text += ", about " + Progress::duration(each * left / options_.jobs) + " left";
    }
    std::printf("\r\033[K%s", text.c_str());
    std::fflush(stdout);
  }

  fs::path folder_;
  SweepOptions options_;
  std::string name_;
  int64_t threads_;
  std::vector<SweepRun> runs_;
  bool terminal_;
  std::vector<size_t> todo_;  // indices of runs_
  std::vector<Clock::time_point> began_;
  size_t done_ = 0;      // finished or failed, earlier too
  size_t done_now_ = 0;  // by this process,
  double seconds_ = 0;   // which took
};

void say_repeated(const Value& tree, size_t runs) {
  if (const std::string repeated = repeated_draws(tree.find("matrix"), runs); !repeated.empty()) log::warning(repeated);
}

// A run's recipe, for its process. `threads`: where it leaves them open; 0: it goes on to.
std::string recipe_text(const Recipe& recipe, int64_t threads) {
  plan_recipe(recipe, /*with_values=*/false);
  if (recipe.device == "cuda") choose_device(recipe.device);  // rather than to fail in every run
  Value resolved = recipe.resolved;
  if (threads > 0 && recipe.threads == 0) resolved["threads"] = threads;
  return to_yaml(resolved);
}

// The runs of the changed matrix in its order: those that are there as they are, and new ones, whose recipes are
// written.
std::vector<SweepRun> with_new_runs(const fs::path& folder, const std::vector<std::string>& changes, int64_t threads,
                                    std::vector<SweepRun> before) {
  Value tree = kept_recipe(folder);
  for (const std::string& change : changes) apply_override(tree, change);
  const std::vector<MatrixPoint> points = matrix_points(tree);
  for (const SweepRun& r : before) {
    const auto kept = std::ranges::find(points, r.name, &MatrixPoint::name);
    if (kept == points.end() || !(kept->values == r.values)) {
      throw InputError("--set " + changes.front(), "the run " + r.name + " of " + folder.string() +
                                                       " would not be one of this matrix: runs can only be added");
    }
  }
  std::vector<MatrixPoint> added;
  for (const MatrixPoint& p : points) {
    if (std::ranges::find(before, p.name, &SweepRun::name) == before.end()) added.push_back(p);
  }
  std::vector<std::string> recipes;
  for_each_run(tree, added, Registry::instance(),
               [&](const MatrixPoint&, const Recipe& recipe) { recipes.push_back(recipe_text(recipe, threads)); });
  say_repeated(tree, points.size());

  for (size_t i = 0; i < added.size(); ++i) write_file(recipe_file(folder, added[i].name), recipes[i]);
  keep_recipe(folder, tree);
  std::vector<SweepRun> runs;
  for (const MatrixPoint& p : points) {
    const auto there = std::ranges::find(before, p.name, &SweepRun::name);
    runs.push_back(there == before.end() ? SweepRun{p.name, p.values, p.draw, "waiting", "", 0, std::nullopt}
                                         : std::move(*there));
  }
  return runs;
}

}  // namespace

int run_sweep(const Value& tree, const std::vector<MatrixPoint>& points, const SweepOptions& options) {
  SweepOptions o = options;
  o.data = absolute(o.data);
  o.plugins = absolute(o.plugins);
  if (o.front.empty()) o.front = "params";
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  const int64_t share = std::max<int64_t>(1, cores / static_cast<unsigned>(o.jobs));
  std::string name;
  int64_t threads = 0;
  int64_t most_threads = 0;
  std::vector<std::string> recipes;
  for_each_run(tree, points, Registry::instance(), [&](const MatrixPoint&, const Recipe& recipe) {
    if (name.empty()) name = recipe.name;
    if (o.jobs > 1 && recipe.threads == 0) threads = share;
    most_threads = std::max(most_threads, recipe.threads);
    recipes.push_back(recipe_text(recipe, o.jobs > 1 ? share : 0));
  });
  say_repeated(tree, points.size());
  if (most_threads * o.jobs > cores && o.jobs > 1) {
    log::warning(std::to_string(o.jobs) + " runs at a time with " + std::to_string(most_threads) +
                 " threads each are more than the " + std::to_string(cores) + " cores: they wait for each other");
  }

  const fs::path folder = new_folder(o.out, "runs/" + name);
  const Lock lock(folder);
  fs::create_directories(folder / "recipes");
  std::vector<SweepRun> runs;
  for (size_t i = 0; i < points.size(); ++i) {
    runs.push_back({points[i].name, points[i].values, points[i].draw, "waiting", "", 0, std::nullopt});
    write_file(recipe_file(folder, points[i].name), recipes[i]);
  }
  keep_recipe(folder, tree);
  Sweep sweep(folder, o, name, threads, std::move(runs));
  return sweep.carry_out();
}

bool is_sweep(const fs::path& folder) {
  return fs::exists(folder / "sweep.json");
}

void prepare_sweep(const fs::path& folder, const Value& tree, std::vector<SweepRun> runs,
                   const std::vector<std::string>& recipes, int64_t threads, const SweepOptions& options) {
  fs::create_directories(folder / "recipes");
  for (size_t i = 0; i < runs.size(); ++i) write_file(recipe_file(folder, runs[i].name), recipes[i]);
  keep_recipe(folder, tree);
  SweepOptions o = options;
  o.data = absolute(o.data);
  o.plugins = absolute(o.plugins);
  if (o.front.empty()) o.front = "params";
  Sweep(folder, o, tree.at("name").as_string(), threads, std::move(runs)).record();
}

namespace {

// A sweep as its folder has it. Of the options, data and plugins come before those that it was started with.
struct SavedSweep {
  SweepOptions options;
  std::string name;
  int64_t threads = 0;
  std::vector<SweepRun> runs;
};

SavedSweep saved_sweep(const fs::path& folder, const SweepOptions& options) {
  const std::string path = (folder / "sweep.json").string();
  if (!is_sweep(folder)) throw InputError(folder.string(), "holds no sweep: there is no sweep.json");
  const Value saved = from_json(read_file(path), path);
  SavedSweep s{.options = options, .name = {}, .runs = {}};
  SweepOptions& o = s.options;
  const auto add = [](std::vector<std::string>& to, const std::vector<std::string>& more) {
    for (const std::string& m : more) {
      if (std::ranges::find(to, m) == to.end()) to.push_back(m);
    }
  };
  try {
    add(o.data = absolute(o.data), strings(saved.at("data")));
    add(o.plugins = absolute(o.plugins), strings(saved.at("plugins")));
    s.name = saved.at("name").as_string();
    s.threads = saved.at("threads").as_int();
    const auto text = [&](const char* key) {  // that an older program did not keep
      const Value* v = saved.find(key);
      return v ? v->as_string() : "";
    };
    o.source = text("source");
    o.scale = text("scale");
    if (o.front.empty()) o.front = text("front_size");
    if (o.front.empty()) o.front = "params";
    for (const Value& run : saved.at("runs").as_list()) s.runs.push_back(SweepRun::from_value(run));
  } catch (const InputError& e) {
    throw InputError(path, std::string("is no record of a sweep: ") + e.what());
  }
  return s;
}

}  // namespace

void record_sweep(const fs::path& folder) {
  SavedSweep s = saved_sweep(folder, {});
  s.options.jobs = static_cast<int>(recorded(folder / "sweep.json").at("jobs").as_int());
  Sweep(folder, s.options, s.name, s.threads, std::move(s.runs)).record();
}

int resume_sweep(const fs::path& folder, const SweepOptions& options, const std::vector<std::string>& changes) {
  SavedSweep s = saved_sweep(folder, options);
  const Lock lock(folder);
  if (!changes.empty()) s.runs = with_new_runs(folder, changes, s.threads, std::move(s.runs));
  Sweep sweep(folder, s.options, s.name, s.threads, std::move(s.runs));
  return sweep.carry_out();
}

}  // namespace espalier
