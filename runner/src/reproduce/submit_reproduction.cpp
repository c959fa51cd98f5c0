#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "espalier/error.h"
#include "espalier/log.h"
#include "record/recorded.h"
#include "reproduce/record.h"
#include "reproduce/slurm.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// What an earlier call submitted and the cluster has not ended.
void find_submitted(Reproduction& all, const fs::path& file) {
  std::map<std::string, std::string> numbers;  // of runs
  try {
    const Value before = recorded(file);
    if (!before.find("runs")) return;
    for (const Value& run : before.at("runs").as_list()) {
      if (const Value* job = run.find("cluster_job")) numbers[run.at("run").as_string()] = job->as_string();
    }
  } catch (const InputError& e) {
    throw InputError(file.string(), std::string("cannot be read; remove it, if no run is in the cluster: ") + e.what());
  }
  std::vector<std::string> jobs;
  for (const auto& [run, job] : numbers) jobs.push_back(job);
  const std::map<std::string, std::string> states = states_of_jobs(jobs);
  for (Job& job : all.jobs) {
    const auto number = numbers.find(job.name);
    if (job.status != JobStatus::waiting || number == numbers.end()) continue;
    const auto state = states.find(number->second);
    if (state == states.end() || !is_pending(state->second)) continue;
    job.status = JobStatus::submitted;
    job.cluster_job = number->second;
    job.cluster_state = state->second;
  }
}

}  // namespace

int submit_reproduction(Reproduction& all, const ReproduceOptions& o) {
  const SlurmOptions options = o.slurm.empty() ? SlurmOptions() : SlurmOptions::read(o.slurm);
  const Record record(all, o);
  find_submitted(all, record.folder() / "runs.json");
  record.prepare_sweeps();

  // How many arrays stand before a run.
  std::vector<size_t> depth(all.jobs.size(), 0);
  std::map<size_t, std::vector<size_t>> levels;
  std::string after_earlier;  // those that an earlier call submitted
  for (size_t i = 0; i < all.jobs.size(); ++i) {
    Job& job = all.jobs[i];
    if (job.status == JobStatus::submitted) {
      const std::string array = job.cluster_job.substr(0, job.cluster_job.find('_'));
      if (after_earlier.find(array) == std::string::npos) after_earlier += (after_earlier.empty() ? "" : ":") + array;
    }
    if (job.status != JobStatus::waiting) continue;
    if (job.tree.is_null()) {
      job.status = JobStatus::blocked;
      job.error = "its recipe can be checked only when the runs are there that it reads; submit it again then";
      continue;
    }
    bool waits_for_earlier = false;
    for (const size_t j : job.after) {
      if (all.jobs[j].status == JobStatus::waiting) depth[i] = std::max(depth[i], depth[j] + 1);
      waits_for_earlier = waits_for_earlier || all.jobs[j].status == JobStatus::submitted;
    }
    if (waits_for_earlier) depth[i] = std::max<size_t>(depth[i], 1);
    levels[depth[i]].push_back(i);
  }
  // A step of Slurm does not take the number of cores over from its job.
  const std::string start =
      options.processes > 1 ? "exec srun --cpus-per-task=" + std::to_string(options.cpus) + " " : "exec ";
  std::string after = after_earlier;
  size_t submitted = 0;
  for (const auto& [level, indices] : levels) {
    std::vector<SlurmTask> tasks;
    for (const size_t i : indices) {
      const Job& job = all.jobs[i];
      record.goes_on(job);
      const std::string checkpoints = shell_word((job.folder(record.out()) / "checkpoints").string());
      tasks.push_back({job.name, "if [ -n \"$(ls -A " + checkpoints + " 2>/dev/null)\" ]; then " + start +
                                     record.shell_line(record.continuation(job)) + "; fi\n" + start +
                                     record.shell_line(record.beginning(job))});
    }
    const std::string number = submit_array(record.folder() / "slurm", all.name + "-" + std::to_string(level), tasks,
                                            options, level == 0 ? "" : after, o.jobs > 1 ? o.jobs : 0);
    for (size_t t = 0; t < indices.size(); ++t) {
      Job& job = all.jobs[indices[t]];
      job.status = JobStatus::submitted;
      job.cluster_job = number + "_" + std::to_string(t);
      job.cluster_state = "PENDING";
      ++submitted;
    }
    after = after_earlier.empty() || level > 0 ? number : after_earlier + ":" + number;
    record.save("submitted");
  }
  record.record_sweeps();
  const bool whole = std::ranges::all_of(all.jobs, [](const Job& j) { return j.status == JobStatus::there; });
  record.save(whole ? "finished" : "submitted");
  if (!o.quiet) {
    std::printf("%s\n%zu run%s submitted now%s%s%s%s\n", record.table().c_str(), submitted, submitted == 1 ? "" : "s",
                record.rest(JobStatus::submitted, "in the cluster").c_str(),
                record.rest(JobStatus::there, "there").c_str(), record.rest(JobStatus::refused, "refused").c_str(),
                record.rest(JobStatus::blocked, "blocked").c_str());
    if (!whole) {
      std::printf(
          "The same command shows how far they are, and submits again what has ended without a result.\n"
          "What the tasks print: %s\n",
          (record.folder() / "slurm").c_str());
    }
  }
  return std::ranges::any_of(
             all.jobs, [](const Job& j) { return j.status == JobStatus::refused || j.status == JobStatus::blocked; })
             ? 1
             : 0;
}

}  // namespace espalier
