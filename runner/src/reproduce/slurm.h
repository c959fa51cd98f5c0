#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "espalier/declare.h"

namespace espalier {

// What a cluster is asked for, a small YAML file.
struct SlurmOptions {
  std::string partition, account, qos, constraint, gres, time, memory;
  int64_t cpus = 1, processes = 1;
  std::vector<std::string> options, setup;
  static void declare(Declare<SlurmOptions>& p);
  // Throws InputError naming the file and the key.
  static SlurmOptions read(const std::filesystem::path& file);
};

// A task of a job array: a line of the shell that ends with the run's exit status.
struct SlurmTask {
  std::string name;
  std::string line;
};

// Submits an array of tasks which begins when the job `after` has ended, well or not (empty: at once), at most
// `at_a_time` of them at a time (0: as many as there is room for). The script and the output of its tasks,
// ARRAY_TASK.txt, lie in the folder. A task that is requeued, by preemption say, begins its line anew. Returns the
// array's number. Throws Error with what sbatch says.
std::string submit_array(const std::filesystem::path& folder, const std::string& name,
                         const std::vector<SlurmTask>& tasks, const SlurmOptions& options, const std::string& after,
                         int at_a_time);

// The states of jobs "ARRAY_TASK" as sacct gives them: PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, PREEMPTED ...
// Where the cluster keeps no accounting, those that squeue lists. What neither knows is left out.
std::map<std::string, std::string> states_of_jobs(const std::vector<std::string>& jobs);

// Whether a job in such a state will still begin or end by itself.
bool is_pending(const std::string& state);

}  // namespace espalier
