#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"
#include "record/progress.h"
#include "reproduce/board.h"
#include "reproduce/reproduction.h"
#include "sweep/sweep.h"
#include "system/files.h"
#include "system/processes.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

// Another run took the place of what is there: NAME.before-1, -2 ... Nothing is lost.
void put_aside(const fs::path& folder) {
  for (int n = 1;; ++n) {
    const fs::path to = folder.string() + ".before-" + std::to_string(n);
    if (fs::exists(to)) continue;
    fs::rename(folder, to);
    return;
  }
}

// Of a run that another one waits for in vain.
std::string words_of(JobStatus status) {
  return status == JobStatus::failed ? "failed"
                                     : (status == JobStatus::interrupted ? "was " : "is ") + to_string(status);
}

class Execution {
 public:
  Execution(Reproduction& all, const ReproduceOptions& options)
      : all_(all),
        o_(options),
        out_(fs::absolute(options.out).lexically_normal()),
        folder_(out_ / all.name),
        board_(options.quiet) {
    const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
    if (o_.jobs > 1) threads_ = std::max<int64_t>(1, cores / static_cast<unsigned>(o_.jobs));
    began_.resize(all.jobs.size());
  }

  int carry_out() {
    fs::create_directories(folder_ / "recipes");
    // One process at a time; the runs keep it, too, until they have ended.
    const Descriptor held(folder_, O_RDONLY | O_DIRECTORY);
    const int lock = ::fcntl(held.number(), F_DUPFD, 0);  // without FD_CLOEXEC: for the children
    if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
      ::close(lock);
      throw InputError(folder_.string(), "is at work: another `espalier reproduce`, or a run of it, has not ended yet");
    }
    prepare_sweeps();
    save("running");
    const auto count = [&](JobStatus s) { return std::ranges::count(all_.jobs, s, &Job::status); };
    board_.say(all_.name + ": " + std::to_string(all_.jobs.size()) + " runs, " +
               std::to_string(count(JobStatus::there)) + " there already, " + std::to_string(o_.jobs) +
               " at a time, about " + Progress::duration(expected_seconds(all_, o_.jobs)) + ", in " + out_.string());
    for (const Job& job : all_.jobs) {
      if (job.status == JobStatus::refused || job.status == JobStatus::blocked)
        log::error("the run " + job.name + " is " + to_string(job.status) + ": " + job.error);
    }

    ProcessQueue queue;
    queue.at_a_time = static_cast<size_t>(o_.jobs);
    queue.next = [this] { return next(); };
    queue.start = [this](size_t i) { return start(i); };
    queue.ended = [this](size_t i, int status) { ended(i, status); };
    queue.tick = [this](size_t) { tick(); };
    queue.over = [this] { return over(); };
    const int signal = run_processes(queue);
    ::close(lock);
    board_.clear();
    for (const JobSweep& s : all_.sweeps) record_sweep(out_ / s.folder);

    const auto done = count(JobStatus::finished) + count(JobStatus::there);
    const bool whole = static_cast<size_t>(done) == all_.jobs.size();
    save(signal != 0 ? "interrupted" : whole ? "finished" : "not finished");
    board_.say("\n" + outcome_table());
    board_.say(std::to_string(done) + " of " + std::to_string(all_.jobs.size()) + " runs are there" +
               rest(JobStatus::failed, "failed") + rest(JobStatus::blocked, "blocked") +
               rest(JobStatus::refused, "refused") + rest(JobStatus::interrupted, "interrupted") +
               rest(JobStatus::waiting, o_.budget > 0 ? "for which no time was left" : "not begun"));
    if (!whole) board_.say("The same command goes on: what is there is not made again.");
    board_.say("How far each is: " + (folder_ / "runs.json").string());
    return signal != 0 ? 128 + signal : whole ? 0 : 1;
  }

 private:
  std::string rest(JobStatus status, const std::string& words) const {
    const auto n = std::ranges::count(all_.jobs, status, &Job::status);
    return n == 0 ? "" : ", " + std::to_string(n) + " " + words;
  }

  void prepare_sweeps() const {
    for (const JobSweep& s : all_.sweeps) {
      std::vector<SweepRun> runs;
      std::vector<std::string> recipes;
      for (const Job& job : all_.jobs) {
        if (job.sweep != s.folder || job.status == JobStatus::refused) continue;
        SweepRun run;
        run.name = fs::path(job.name).filename().string();
        run.values = job.values;
        runs.push_back(std::move(run));
        recipes.push_back(to_yaml(with_threads(job)));
      }
      SweepOptions options;
      options.data = o_.data;
      options.plugins = o_.plugins;
      options.jobs = o_.jobs;
      options.source = s.source.string();
      options.scale = o_.scale;
      if (!runs.empty()) prepare_sweep(out_ / s.folder, s.tree, std::move(runs), recipes, threads_, options);
    }
  }

  Value with_threads(const Job& job) const {
    Value tree = job.tree;
    const Value* own = tree.find("threads");
    if (threads_ > 0 && (!own || own->as_int() == 0)) tree["threads"] = threads_;
    return tree;
  }

  // The first that may begin; those whose needs have failed are found on the way.
  std::optional<size_t> next() {
    for (size_t i = 0; i < all_.jobs.size(); ++i) {
      Job& job = all_.jobs[i];
      if (job.status != JobStatus::waiting) continue;
      bool ready = true;
      for (const size_t j : job.after) {
        const Job& needed = all_.jobs[j];
        if (needed.status == JobStatus::there || needed.status == JobStatus::finished) continue;
        ready = false;
        if (needed.status == JobStatus::waiting || needed.status == JobStatus::running) continue;
        job.status = JobStatus::blocked;
        job.error = "it needs " + needed.name + ", which " + words_of(needed.status);
        board_.say("blocked: " + job.name + ": " + job.error);
        break;
      }
      if (ready && fits(job) && is_known(job)) return i;
    }
    return std::nullopt;
  }

  // Checks a recipe that could not be checked before the runs were there that it reads.
  bool is_known(Job& job) {
    if (!job.tree.is_null()) return true;
    try {
      job.tree = check_recipe(job.recipe_read, Registry::instance()).resolved;
      return true;
    } catch (const Error& e) {
      job.status = JobStatus::refused;
      job.error = e.what();
      board_.clear();
      log::error("the run " + job.name + " is refused: " + job.error);
      return false;
    }
  }

  // Whether the time that is left is likely to do. What is not known is tried.
  bool fits(const Job& job) const {
    constexpr double hour = 3600;
    return o_.budget <= 0 || seconds_since(start_) + job.estimate.value_or(0) <= o_.budget * hour;
  }
  bool over() const {
    constexpr double hour = 3600;
    return o_.budget > 0 && seconds_since(start_) > o_.budget * hour;
  }

  fs::path early_output(const Job& job) const {
    std::string name = job.name;
    std::ranges::replace(name, '/', ' ');
    return folder_ / "recipes" / (name + ".txt");
  }
  fs::path output(const Job& job) const { return job.folder(out_) / "output.txt"; }

  ProcessCommand start(size_t i) {
    Job& job = all_.jobs[i];
    const fs::path run = job.folder(out_);
    std::string file_name = job.name;
    std::ranges::replace(file_name, '/', ' ');
    const fs::path recipe = folder_ / "recipes" / (file_name + ".yaml");
    write_file(recipe, to_yaml(with_threads(job)));
    ProcessCommand c;
    c.program = o_.program;
    const bool same = fs::exists(run) && is_of_recipe(run, job);
    if (same && has_checkpoints(run) && !fs::exists(run / "model.safetensors")) {
      c.arguments = {"resume", run.string()};
      c.output = output(job);
    } else {
      if (has_checkpoints(run)) {
        put_aside(run);
      } else {
        fs::remove_all(run);  // nothing was trained: what is there would only be in the way
      }
      fs::remove(early_output(job));
      c.arguments = {"run",      recipe.string(),     "--out",          run.string(),
                     "--source", job.source.string(), "--source-scale", o_.scale};
      c.output = early_output(job);
    }
    for (const std::string& d : o_.data) c.arguments.insert(c.arguments.end(), {"--data", d});
    for (const std::string& p : o_.plugins) c.arguments.insert(c.arguments.end(), {"--plugins", p});
    c.arguments.insert(c.arguments.end(), o_.flags.begin(), o_.flags.end());
    job.status = JobStatus::running;
    job.error.clear();
    began_[i] = Clock::now();
    if (!board_.is_live()) board_.say("begins: " + job.name);
    save("running");
    return c;
  }

  void ended(size_t i, int status) {
    Job& job = all_.jobs[i];
    job.seconds = seconds_since(began_[i]);
    if (fs::exists(early_output(job)) && fs::is_directory(job.folder(out_))) fs::rename(early_output(job), output(job));
    try {
      job.summary = Summary::read(job.folder(out_));
    } catch (const Error& e) {
      log::warning(e.what());
    }
    if (status == 0 && job.summary && job.summary->is_finished()) {
      job.status = JobStatus::finished;
    } else if (status == 128 + SIGINT || status == 128 + SIGTERM || status == 128 + SIGHUP) {
      job.status = JobStatus::interrupted;
    } else {
      job.status = JobStatus::failed;
      const fs::path text = fs::exists(output(job)) ? output(job) : early_output(job);
      job.error = error_of_process(status, job.summary, text);
      board_.clear();
      log::error("the run " + job.name + " failed: " + job.error + " (output: " + text.string() + ")");
    }
    save("running");
    if (job.status == JobStatus::failed) return;
    std::string line = (job.status == JobStatus::finished ? "made: " : "interrupted: ") + job.name;
    if (job.status == JobStatus::finished) line += "  " + result_text(*job.summary);
    board_.say(line + "  " + Progress::duration(job.seconds));
  }

  static std::string result_text(const Summary& s) {
    return s.result->leading.name + " " + metric_text(s.result->metrics.front().second, s.result->leading.unit) + "  " +
           count_text(s.result->final.params) + " params  " + count_text(s.result->final.macs) + " MACs";
  }

  void tick() {
    if (!board_.is_live()) return;
    std::vector<Board::Running> running;
    size_t done = 0;
    for (size_t i = 0; i < all_.jobs.size(); ++i) {
      const Job& job = all_.jobs[i];
      if (job.status == JobStatus::running) {
        running.push_back({job.name, job.folder(out_), &job.tree, seconds_since(began_[i]), job.estimate});
      } else if (job.status != JobStatus::waiting && job.status != JobStatus::interrupted) {
        ++done;
      }
    }
    board_.show(running, done, all_.jobs.size(), expected_seconds(all_, o_.jobs));
  }

  void save(const std::string& status) const {
    Value list = Value::list();
    for (const Job& job : all_.jobs) {
      Value v = Value::map({{"run", job.name},
                            {"name", job.recipe},
                            {"recipe", job.source.string()},
                            {"seed", job.seed},
                            {"values", job.values},
                            {"status", to_string(job.status)},
                            {"seconds", job.seconds}});
      if (!job.error.empty()) v["error"] = job.error;
      Value after = Value::list();
      for (const size_t j : job.after) after.push_back(all_.jobs[j].name);
      v["needs"] = after;
      if (job.summary) v["summary"] = job.summary->to_value();
      list.push_back(std::move(v));
    }
    const Value all = Value::map({{"name", all_.name},
                                  {"status", status},
                                  {"scale", o_.scale},
                                  {"out", out_.string()},
                                  {"notes", all_.notes},
                                  {"runs", list}});
    write_file(folder_ / "runs.json", to_json(all, 1) + "\n");
  }

  // What came out, and what the papers say where the recipes tell.
  std::string outcome_table() const {
    std::vector<std::vector<std::string>> rows{{"run", "status", "test", "params", "MACs", "expected", "met", ""}};
    for (const Job& job : all_.jobs) {
      std::vector<std::string> row{job.name, to_string(job.status), "", "", "", "", "", ""};
      if (job.summary && job.summary->result) {
        const RunResult& r = *job.summary->result;
        row[2] = metric_text(r.metrics.front().second, r.leading.unit);
        row[3] = count_text(r.final.params);
        row[4] = count_text(r.final.macs);
        size_t met = 0, all = 0;
        if (!job.summary->expect.is_null()) {
          for (const Value::Entry& e : job.summary->expect.as_map()) {
            row[5] += (row[5].empty() ? "" : ", ") + e.key + " " + metric_text(e.value.at("value").as_double(), "");
            met += e.value.at("met").as_bool() ? 1 : 0;
            ++all;
          }
        }
        if (all > 0) row[6] = std::to_string(met) + " of " + std::to_string(all);
      } else {
        row[7] = job.error.substr(0, job.error.find('\n'));
      }
      rows.push_back(std::move(row));
    }
    return table(rows, terminal_width());
  }

  Reproduction& all_;
  const ReproduceOptions& o_;
  fs::path out_, folder_;
  Board board_;
  int64_t threads_ = 0;
  std::vector<Clock::time_point> began_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

int run_reproduction(Reproduction& all, const ReproduceOptions& options) {
  return Execution(all, options).carry_out();
}

}  // namespace espalier
