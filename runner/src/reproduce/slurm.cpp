#include "reproduce/slurm.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <sstream>
#include <utility>

#include <sys/wait.h>

#include "espalier/error.h"
#include "recipe/yaml.h"
#include "system/files.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// The exit status and the output of a command, what it says of errors included.
std::pair<int, std::string> output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (!pipe) throw Error(command + ": cannot be started");
  std::string text;
  std::array<char, 4096> bytes{};
  while (const size_t n = std::fread(bytes.data(), 1, bytes.size(), pipe)) text.append(bytes.data(), n);
  const int status = ::pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 255, text};
}

// Lines of "ARRAY_TASK|STATE".
void read_states(const std::string& text, std::map<std::string, std::string>& states) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t bar = line.find('|');
    if (bar == std::string::npos) continue;
    std::string state = line.substr(bar + 1);
    state = state.substr(0, state.find(' '));  // "CANCELLED by 1000"
    states[line.substr(0, bar)] = state;
  }
}

}  // namespace

void SlurmOptions::declare(Declare<SlurmOptions>& p) {
  p("partition", &SlurmOptions::partition, "The partition; empty: the cluster's default.");
  p("account", &SlurmOptions::account, "The account that is charged.");
  p("qos", &SlurmOptions::qos, "The quality of service.");
  p("constraint", &SlurmOptions::constraint, "Features that nodes must have.");
  p("gres", &SlurmOptions::gres, "Generic resources of each run: `gpu:1`.");
  p("time", &SlurmOptions::time, "The limit of each run: `4:00:00`; a run that reaches it is saved, and can go on.");
  p("memory", &SlurmOptions::memory, "Memory of each run: `8G`.");
  p("cpus", &SlurmOptions::cpus, at_least(1), "Cores of each run; recipes that leave `threads` open use as many.");
  p("processes", &SlurmOptions::processes, at_least(1),
    "Processes that train each run together, started by srun; `cpus` is then for each of them.");
  p("options", &SlurmOptions::options, "Further options of sbatch, each as one text: `--exclusive`.");
  p("setup", &SlurmOptions::setup, "Lines of the shell that run before: `module load gcc`, `export NAME=VALUE`.");
}

SlurmOptions SlurmOptions::read(const fs::path& file) {
  return Declare<SlurmOptions>().read(read_yaml(file), "the options of Slurm");
}

std::string submit_array(const fs::path& folder, const std::string& name, const std::vector<SlurmTask>& tasks,
                         const SlurmOptions& o, const std::string& after, int at_a_time) {
  fs::create_directories(folder);
  std::string script = "#!/bin/bash\n";
  const auto option = [&](const std::string& text) { script += "#SBATCH " + text + "\n"; };
  option("--job-name=" + name);
  option("--array=0-" + std::to_string(tasks.size() - 1) + (at_a_time > 0 ? "%" + std::to_string(at_a_time) : ""));
  option("--output=" + (folder / "%A_%a.txt").string());
  option("--open-mode=append");
  option("--requeue");
  option("--cpus-per-task=" + std::to_string(o.cpus));
  if (o.processes > 1) option("--ntasks=" + std::to_string(o.processes));
  const std::pair<const char*, const std::string&> named[] = {
      {"partition", o.partition}, {"account", o.account}, {"qos", o.qos},   {"constraint", o.constraint},
      {"gres", o.gres},           {"time", o.time},       {"mem", o.memory}};
  for (const auto& [key, value] : named) {
    if (!value.empty()) option(std::string("--") + key + "=" + value);
  }
  if (!after.empty()) option("--dependency=afterany:" + after);
  for (const std::string& more : o.options) option(more);
  for (const std::string& line : o.setup) script += line + "\n";
  script += "case $SLURM_ARRAY_TASK_ID in\n";
  for (size_t i = 0; i < tasks.size(); ++i) script += std::to_string(i) + ")\n" + tasks[i].line + "\n;;\n";
  script += "esac\n";
  const fs::path file = folder / (name + ".sh");
  write_file(file, script);
  const auto [status, text] = output_of("sbatch --parsable " + shell_word(file.string()));
  const std::string number = text.substr(text.rfind('\n') + 1);  // behind what it warns of
  std::string id = number.substr(0, number.find(';'));           // and before the cluster's name
  if (status != 0 || id.empty() || id.find_first_not_of("0123456789") != std::string::npos) {
    throw Error("sbatch " + file.string() + (status == 127 ? ": is not installed here" : ": " + text));
  }
  return id;
}

std::map<std::string, std::string> states_of_jobs(const std::vector<std::string>& jobs) {
  std::map<std::string, std::string> states;
  if (jobs.empty()) return states;
  std::set<std::string> arrays;
  for (const std::string& job : jobs) arrays.insert(job.substr(0, job.find('_')));
  std::string list;
  for (const std::string& a : arrays) list += (list.empty() ? "" : ",") + a;
  // Each task by itself, also those that wait.
  const auto [status, text] = output_of("sacct --array -X -n -P -o JobID,State -j " + list);
  if (status == 0) read_states(text, states);
  // What has not reached the accounting yet; squeue knows nothing of what ended long ago, and says so as an error.
  const auto [code, queued] = output_of("squeue --array -h -o '%i|%T' -j " + list);
  if (code == 0) read_states(queued, states);
  std::erase_if(states, [&](const auto& s) { return std::ranges::find(jobs, s.first) == jobs.end(); });
  return states;
}

bool is_pending(const std::string& state) {
  static const std::set<std::string> pending{"PENDING",    "RUNNING",  "REQUEUED",  "REQUEUE_HOLD", "REQUEUE_FED",
                                             "COMPLETING", "RESIZING", "SUSPENDED", "CONFIGURING",  "SIGNALING"};
  return pending.contains(state);
}

}  // namespace espalier
