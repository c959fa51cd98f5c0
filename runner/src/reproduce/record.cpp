#include "reproduce/record.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "espalier/error.h"
#include "recipe/yaml.h"
#include "store/store.h"
#include "sweep/sweep.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// Another run takes the place of what is there: NAME.before-1, -2 ... Nothing is lost.
void put_aside(const fs::path& folder) {
  for (int n = 1;; ++n) {
    const fs::path to = folder.string() + ".before-" + std::to_string(n);
    if (fs::exists(to)) continue;
    fs::rename(folder, to);
    return;
  }
}

std::string file_name(const Job& job) {
  std::string name = job.name;
  std::ranges::replace(name, '/', ' ');
  return name;
}

}  // namespace

Record::Record(Reproduction& all, const ReproduceOptions& options)
    : all_(all), o_(options), out_(fs::absolute(options.out).lexically_normal()), folder_(out_ / all.name) {
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  if (o_.jobs > 1 && o_.launcher.empty()) threads_ = std::max<int64_t>(1, cores / static_cast<unsigned>(o_.jobs));
  fs::create_directories(folder_ / "recipes");
  const Descriptor folder(folder_, O_RDONLY | O_DIRECTORY);
  lock_ = ::fcntl(folder.number(), F_DUPFD, 0);  // without FD_CLOEXEC: for the runs
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw InputError(folder_.string(), "is at work: another `espalier reproduce`, or a run of it, has not ended yet");
  }
}

Record::~Record() {
  ::close(lock_);
}

void Record::save(const std::string& status) const {
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
    if (!job.cluster_job.empty()) v["cluster_job"] = job.cluster_job;
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

void Record::prepare_sweeps() const {
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

void Record::record_sweeps() const {
  for (const JobSweep& s : all_.sweeps) {
    if (is_sweep(out_ / s.folder)) record_sweep(out_ / s.folder);
  }
}

Value Record::with_threads(const Job& job) const {
  Value tree = job.tree;
  const Value* own = tree.find("threads");
  if (threads_ > 0 && (!own || own->as_int() == 0)) tree["threads"] = threads_;
  return tree;
}

bool Record::goes_on(const Job& job) const {
  const fs::path run = job.folder(out_);
  const bool same = fs::exists(run) && is_of_recipe(run, job);
  if (same && has_checkpoints(run) && !fs::exists(run / "model.safetensors")) return true;
  std::error_code none;
  if (has_checkpoints(run) || (fs::exists(run) && !is_run_folder(run) && !fs::is_empty(run, none))) {
    put_aside(run);
  } else {
    fs::remove_all(run);  // a run that had trained nothing: it would only be in the way
  }
  return false;
}

std::vector<std::string> Record::beginning(const Job& job) const {
  const fs::path recipe = folder_ / "recipes" / (file_name(job) + ".yaml");
  write_file(recipe, to_yaml(with_threads(job)));
  std::vector<std::string> arguments{"run",      recipe.string(),     "--out",          job.folder(out_).string(),
                                     "--source", job.source.string(), "--source-scale", o_.scale};
  add_flags(arguments);
  return arguments;
}

std::vector<std::string> Record::continuation(const Job& job) const {
  std::vector<std::string> arguments{"resume", job.folder(out_).string()};
  add_flags(arguments);
  return arguments;
}

void Record::add_flags(std::vector<std::string>& arguments) const {
  for (const std::string& d : o_.data) arguments.insert(arguments.end(), {"--data", fs::absolute(d).string()});
  for (const std::string& p : o_.plugins) arguments.insert(arguments.end(), {"--plugins", fs::absolute(p).string()});
  arguments.insert(arguments.end(), o_.flags.begin(), o_.flags.end());
}

std::string Record::shell_line(const std::vector<std::string>& arguments) const {
  std::error_code none;
  const fs::path program = fs::read_symlink(o_.program, none);  // of /proc/self/exe
  std::string line = shell_word(none ? o_.program.string() : program.string());
  for (const std::string& a : arguments) line += " " + shell_word(a);
  return line;
}

fs::path Record::early_output(const Job& job) const {
  return folder_ / "recipes" / (file_name(job) + ".txt");
}

std::string Record::rest(JobStatus status, const std::string& words) const {
  const auto n = std::ranges::count(all_.jobs, status, &Job::status);
  return n == 0 ? "" : ", " + std::to_string(n) + " " + words;
}

std::string Record::table() const {
  std::vector<std::vector<std::string>> rows{{"run", "status", "test", "params", "MACs", "expected", "met", ""}};
  for (const Job& job : all_.jobs) {
    const std::string in_cluster = job.cluster_state.empty() ? "" : ": " + job.cluster_state;
    std::vector<std::string> row{job.name, to_string(job.status) + in_cluster, "", "", "", "", "", ""};
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
  return espalier::table(rows, terminal_width());
}

}  // namespace espalier
