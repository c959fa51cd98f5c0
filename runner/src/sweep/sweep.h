#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sweep/matrix.h"
#include "sweep/report.h"

namespace espalier {

// The folder of a sweep:
//   sweep.json           {name, source, scale, status, jobs, threads, data, plugins, runs, front_size, front, seeds};
//                        see docs/recipes.md
//   recipe.json          the recipe with its matrix: see kept_recipe.h
//   recipes/RUN.yaml     the run's recipe, resolved
//   RUN/                 its run folder, with its output in output.txt

struct SweepOptions {
  std::string out;                   // the sweep's folder, new or empty; "": runs/NAME, runs/NAME-2 ...
  std::vector<std::string> data;     // --data and
  std::vector<std::string> plugins;  // --plugins of every run
  int jobs = 1;                      // runs at a time
  std::string source, scale;         // the recipe's file and which of its scales, for the runs' records
  std::string front;                 // the size that the front compares: params, macs; "": as it began, else params
  bool quiet = false;
  // Of the runs: this program.
  std::filesystem::path program = "/proc/self/exe";
  std::vector<std::string> flags;  // further ones of every run, not kept in sweep.json
};

// Makes a sweep's folder for runs that others will start, or takes such a folder up: recipes/RUN.yaml, recipe.json and
// sweep.json. recipes: of each run. threads: of each run whose recipe leaves them open; 0: all cores.
void prepare_sweep(const std::filesystem::path& folder, const Value& tree, std::vector<SweepRun> runs,
                   const std::vector<std::string>& recipes, int64_t threads, const SweepOptions& options);

// Writes sweep.json anew, of what the folders of the runs say.
void record_sweep(const std::filesystem::path& folder);

// Why a run's process did not end well: its signal, what its summary or else the last lines of its output say.
std::string error_of_process(int status, const std::optional<Summary>& summary, const std::filesystem::path& output);

// Carries out the runs of a matrix, each as a process of its own, and shows a table. A run that fails keeps no other
// from running. Where several run at a time and the recipe leaves their threads open, they share the cores. Returns the
// exit status: 0, 1 where a run failed, 128 + signal where one stopped the sweep. Throws InputError, before anything is
// written, where a run's recipe is wrong.
int run_sweep(const Value& tree, const std::vector<MatrixPoint>& points, const SweepOptions& options);

// Whether a folder is a sweep's.
bool is_sweep(const std::filesystem::path& folder);

// Goes on with a sweep: what has finished stays, what has checkpoints goes on from them (`espalier resume RUN`), the
// rest begins anew. Of the options `out` is not read; data and plugins are searched before those that the sweep was
// started with. `changes`, each as --set takes it, change the matrix so that it stands for more runs than before, and
// the plugins must be loaded then. Returns what run_sweep() does. Throws InputError where the folder holds no sweep, or
// one at work, and before anything is written where a changed matrix or a new run is wrong, or a run that is there
// would no longer be one of the matrix.
int resume_sweep(const std::filesystem::path& folder, const SweepOptions& options,
                 const std::vector<std::string>& changes = {});

}  // namespace espalier
