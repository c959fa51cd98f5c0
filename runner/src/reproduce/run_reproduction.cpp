#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>

#include "espalier/error.h"
#include "espalier/log.h"
#include "recipe/recipe.h"
#include "record/progress.h"
#include "reproduce/board.h"
#include "reproduce/record.h"
#include "reproduce/reproduction.h"
#include "sweep/sweep.h"
#include "system/processes.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

// Of a run that another one waits for in vain.
std::string words_of(JobStatus status) {
  return status == JobStatus::failed ? "failed"
                                     : (status == JobStatus::interrupted ? "was " : "is ") + to_string(status);
}

class Execution {
 public:
  Execution(Reproduction& all, const ReproduceOptions& options)
      : all_(all), o_(options), record_(all, options), board_(options.quiet), began_(all.jobs.size()) {}

  int carry_out() {
    record_.prepare_sweeps();
    record_.save("running");
    const auto count = [&](JobStatus s) { return std::ranges::count(all_.jobs, s, &Job::status); };
    board_.say(all_.name + ": " + std::to_string(all_.jobs.size()) + " runs, " +
               std::to_string(count(JobStatus::there)) + " there already, " + std::to_string(o_.jobs) +
               " at a time, about " + Progress::duration(expected_seconds(all_, o_.jobs)) + ", in " +
               record_.out().string());
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
    board_.clear();
    record_.record_sweeps();

    const auto done = count(JobStatus::finished) + count(JobStatus::there);
    const bool whole = static_cast<size_t>(done) == all_.jobs.size();
    record_.save(signal != 0 ? "interrupted" : whole ? "finished" : "not finished");
    board_.say("\n" + record_.table());
    board_.say(std::to_string(done) + " of " + std::to_string(all_.jobs.size()) + " runs are there" +
               record_.rest(JobStatus::failed, "failed") + record_.rest(JobStatus::blocked, "blocked") +
               record_.rest(JobStatus::refused, "refused") + record_.rest(JobStatus::interrupted, "interrupted") +
               record_.rest(JobStatus::waiting, o_.budget > 0 ? "for which no time was left" : "not begun"));
    if (!whole) board_.say("The same command goes on: what is there is not made again.");
    board_.say("How far each is: " + (record_.folder() / "runs.json").string());
    return signal != 0 ? 128 + signal : whole ? 0 : 1;
  }

 private:
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

  ProcessCommand start(size_t i) {
    Job& job = all_.jobs[i];
    ProcessCommand c;
    c.program = o_.program;
    if (record_.goes_on(job)) {
      c.arguments = record_.continuation(job);
      c.output = record_.output(job);
    } else {
      fs::remove(record_.early_output(job));
      c.arguments = record_.beginning(job);
      c.output = record_.early_output(job);
    }
    if (!o_.launcher.empty()) {
      std::string line = o_.launcher;
      replace_all(line, "{command}", record_.shell_line(c.arguments));
      c.program = "/bin/sh";
      c.arguments = {"-c", line};
    }
    job.status = JobStatus::running;
    job.error.clear();
    began_[i] = Clock::now();
    if (!board_.is_live()) board_.say("begins: " + job.name);
    record_.save("running");
    return c;
  }

  void ended(size_t i, int status) {
    Job& job = all_.jobs[i];
    job.seconds = seconds_since(began_[i]);
    if (fs::exists(record_.early_output(job)) && fs::is_directory(job.folder(record_.out())))
      fs::rename(record_.early_output(job), record_.output(job));
    try {
      job.summary = Summary::read(job.folder(record_.out()));
    } catch (const Error& e) {
      log::warning(e.what());
    }
    if (status == 0 && job.summary && job.summary->is_finished()) {
      job.status = JobStatus::finished;
    } else if (status == 128 + SIGINT || status == 128 + SIGTERM || status == 128 + SIGHUP) {
      job.status = JobStatus::interrupted;
    } else {
      job.status = JobStatus::failed;
      const fs::path text = fs::exists(record_.output(job)) ? record_.output(job) : record_.early_output(job);
      job.error = error_of_process(status, job.summary, text);
      board_.clear();
      log::error("the run " + job.name + " failed: " + job.error + " (output: " + text.string() + ")");
    }
    record_.save("running");
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
        running.push_back({job.name, job.folder(record_.out()), &job.tree, seconds_since(began_[i]), job.estimate});
      } else if (job.status != JobStatus::waiting && job.status != JobStatus::interrupted) {
        ++done;
      }
    }
    board_.show(running, done, all_.jobs.size(), expected_seconds(all_, o_.jobs));
  }

  Reproduction& all_;
  const ReproduceOptions& o_;
  Record record_;
  Board board_;
  std::vector<Clock::time_point> began_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

int run_reproduction(Reproduction& all, const ReproduceOptions& options) {
  if (options.launcher == "slurm") return submit_reproduction(all, options);
  return Execution(all, options).carry_out();
}

}  // namespace espalier
