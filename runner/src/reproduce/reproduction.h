#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "espalier/registry.h"
#include "espalier/value.h"
#include "record/summary.h"

namespace espalier {

struct ReproduceOptions {
  std::vector<std::filesystem::path> paths;  // recipes, and folders that hold them however deep
  std::string scale;                         // of every recipe; empty: none
  std::vector<int64_t> seeds;                // of every recipe; empty: its own
  std::vector<std::string> filters;          // see RunFilter; of what `name`, `recipe`, `seed` and recipe keys say
  std::filesystem::path out = "runs";        // the folders of all runs lie here
  int jobs = 1;                              // runs at a time
  double budget = 0;                         // hours; 0: as long as it takes
  bool any_version = false;                  // runs that another program version made count as made
  std::vector<std::string> data, plugins;    // --data and --plugins of every run
  bool quiet = false;
  // How runs are started: "" as processes here; "slurm" as tasks of Slurm's job arrays; else a command of the shell, in
  // which {command} stands for the run's own: "ssh node {command}".
  std::string launcher;
  std::filesystem::path slurm;  // a file of SlurmOptions; empty: none
  std::filesystem::path program = "/proc/self/exe";
  std::vector<std::string> flags;  // further ones of every run
};

// How far a run is.
enum class JobStatus {
  waiting,      // begins anew or goes on from its checkpoint
  submitted,    // waits or runs in a cluster
  there,        // was finished before
  running,      //
  finished,     // now
  failed,       // its process did, with an error
  interrupted,  // by a signal, or as the time was over
  blocked,      // what it needs failed or is missing
  refused,      // its recipe is wrong
};
std::string to_string(JobStatus status);

// One run.
struct Job {
  std::string name;    // of its folder in the common one: "003-t4-c10-base-seed0", of a matrix "003-f1-beta/beta=0.5"
  std::string recipe;  // the name that the recipe gives the run
  std::filesystem::path source;  // the recipe's file
  int64_t seed = 0;
  std::string sweep;          // the folder, in the common one, of the sweep that it belongs to; empty: of none
  Value values;               // what the matrix sets, a map
  std::vector<size_t> after;  // the jobs whose runs it reads
  Value recipe_read;          // as it was read, with the paths of this place
  Value tree;  // the same checked, with all defaults; null: not known before the runs are there that it reads
  std::optional<double> macs;      // of its training, as far as a plan knows
  std::optional<double> estimate;  // seconds that it will take
  bool was_measured = false;       // the estimate is what an earlier run took
  JobStatus status = JobStatus::waiting;
  std::string error;
  double seconds = 0;       // of its process, now
  std::string cluster_job;  // its number in the cluster, and its state as that says it
  std::string cluster_state;
  std::optional<Summary> summary;

  std::filesystem::path folder(const std::filesystem::path& out) const { return out / name; }
};

// A matrix: its runs make a sweep's folder, as `espalier run` would.
struct JobSweep {
  std::string folder;  // in the common one
  Value tree;          // the recipe with its matrix
  std::filesystem::path source;
};

struct Reproduction {
  std::string name;       // "reproduce", with the scale behind it where there is one
  std::vector<Job> jobs;  // what a run needs stands before it
  std::vector<JobSweep> sweeps;
  std::vector<std::string> notes;  // recipes that were passed over, and others that were added as they are needed
};

// The runs that recipes stand for. A recipe that is wrong is a job with the status `refused`; a file without a name and
// stages of its own is a part of recipes and passed over; what selected recipes need is added. Paths in recipes that
// lead to runs of recipes under `needs` lead to the common folder instead, and from `-seed0`, or whichever seed the
// recipe has, to the seed of the job. Throws InputError where a path or a filter is wrong, or nothing is left.
Reproduction plan_reproduction(const ReproduceOptions& options, const Registry& registry);

// Whether a folder holds a run of the job's recipe; how many threads compute does not count. False, too, where it
// cannot be read.
bool is_of_recipe(const std::filesystem::path& run, const Job& job);
// Whether a run can go on.
bool has_checkpoints(const std::filesystem::path& run);

// Marks what is there with the same recipe, the same data and of the same program version, and nothing anew before it.
void find_finished(Reproduction& all, const ReproduceOptions& options);

// Gives each job an estimate: what the newest finished run of its name took, else by its multiply-accumulates.
void estimate(Reproduction& all);
// Of what is to be done, with so many at a time; jobs without an estimate count as the mean of the others.
double expected_seconds(const Reproduction& all, int jobs);

// The table of `--dry-run`.
std::string jobs_table(const Reproduction& all, const std::filesystem::path& out);

// Carries them out, or submits them to a cluster. OUT/NAME/runs.json says how far it is, at any time. Returns the exit
// status: 0, 1 where a run did not finish, 128 + signal where one stopped it.
int run_reproduction(Reproduction& all, const ReproduceOptions& options);

}  // namespace espalier
