#include "commands/reproduce.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "commands/training_options.h"
#include "distributed/processes.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"
#include "record/progress.h"
#include "reproduce/reproduction.h"
#include "system/program_paths.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

// The recipes of the papers: those of the working folder, or those that came with the program.
fs::path paper_recipes() {
  fs::path here = fs::path("recipes") / "paper";
  if (fs::is_directory(here)) return here;
  fs::path installed = program_prefix() / "share" / "espalier" / "recipes" / "paper";
  if (fs::is_directory(installed)) return installed;
  throw InputError("", "there are no recipes/paper here: give the recipes, or folders that hold them");
}

struct ReproduceFlags {
  ReproduceOptions options;
  std::vector<std::string> paths;
  std::string out = "runs", launcher, slurm;
  bool dry_run = false;
  PluginOptions plugins;
  TrainingOptions training;
};

// "slurm", or what stands behind "command:".
std::string launcher_of(const std::string& given) {
  const std::string word = "command:";
  if (given.empty() || given == "local") return "";
  if (given == "slurm") return given;
  if (!given.starts_with(word)) {
    throw InputError("--launcher " + given,
                     "expected local, slurm or 'command: ...'" + suggestion(given, {"local", "slurm"}));
  }
  const size_t at = given.find_first_not_of(' ', word.size());
  std::string line = at == std::string::npos ? "" : given.substr(at);
  if (line.find("{command}") == std::string::npos) {
    throw InputError("--launcher '" + given + "'",
                     "has no {command}, which stands for what starts a run: 'command: ssh node {command}'");
  }
  return line;
}

void reproduce(ReproduceFlags& f) {
  if (const int64_t count = ProcessPlace::from_environment().count; count > 1) {
    throw InputError("reproduce", "it makes many runs, and this is one of " + std::to_string(count) +
                                      " processes of one run (WORLD_SIZE, or a step of Slurm): start it by itself. "
                                      "What trains each run by several processes is `processes` in the file of "
                                      "--slurm, or --launcher 'command: torchrun --nproc-per-node 2 --no-python "
                                      "{command}'");
  }
  register_builtin(Registry::instance());
  f.plugins.load();
  ReproduceOptions& o = f.options;
  o.paths.assign(f.paths.begin(), f.paths.end());
  if (o.paths.empty()) o.paths.push_back(paper_recipes());
  o.out = f.out;
  o.launcher = launcher_of(f.launcher);
  o.slurm = f.slurm;
  if (!f.slurm.empty() && o.launcher != "slurm")
    throw InputError("--slurm " + f.slurm, "is for `--launcher slurm`, which is not given");
  const SweepOptions of_runs = f.training.of_sweep(f.plugins);
  o.data = of_runs.data;
  o.plugins = of_runs.plugins;
  o.quiet = of_runs.quiet;
  o.flags = of_runs.flags;
  Reproduction all = plan_reproduction(o, Registry::instance());
  find_finished(all, o);
  estimate(all);
  if (f.dry_run) {
    std::cout << jobs_table(all, o.out) << "\n";
    for (const std::string& n : all.notes) std::cout << "note: " << n << "\n";
    std::cout << "In all about " << Progress::duration(expected_seconds(all, o.jobs)) << " with " << o.jobs
              << (o.jobs == 1 ? " run" : " runs")
              << " at a time. Times in brackets are estimated by the multiply-accumulates of the plan, the others are "
                 "those of earlier runs.\n";
    return;
  }
  if (!o.quiet) {
    for (const std::string& n : all.notes) std::cout << "note: " << n << "\n";
  }
  const int status = run_reproduction(all, o);
  if (status != 0) throw CLI::RuntimeError(status);
}

}  // namespace

void add_reproduce_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("reproduce", "Makes all runs that recipes stand for, those that others need first");
  auto f = std::make_shared<ReproduceFlags>();
  command->add_option("path", f->paths, "Recipes, and folders that hold them (default: recipes/paper)")
      ->type_name("PATH...");
  command->add_option("--scale", f->options.scale, "One of the recipes' `scales`: smoke, short; paper is what they are")
      ->type_name("NAME");
  command->add_option("--seeds", f->options.seeds, "Seeds of every recipe that has none in its matrix: 0,1,2")
      ->type_name("N,N...")
      ->delimiter(',');
  command->add_option("--jobs", f->options.jobs, "Runs at a time (default: 1); they share the CPU's cores")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--filter", f->options.filters,
                   "Only recipes for which this holds, as often as needed: 'name=003-t4-*', network.use=resnet20")
      ->type_name("CONDITION")
      ->allow_extra_args(false);
  command
      ->add_option("--budget", f->options.budget,
                   "Hours: no run begins that would not end in time, and those at work then are saved and stopped")
      ->type_name("HOURS")
      ->check(CLI::PositiveNumber);
  command->add_option("--out", f->out, "The folder that the runs' folders lie in (default: runs)")->type_name("DIR");
  command
      ->add_option("--launcher", f->launcher,
                   "How runs are started: local (default); slurm, as job arrays; or a command of the shell that ends "
                   "when the run does: 'command: ssh node {command}'")
      ->type_name("HOW");
  command
      ->add_option("--slurm", f->slurm,
                   "For `--launcher slurm`: a YAML file with partition, gres, time, cpus, memory, account, qos, "
                   "constraint, options and setup")
      ->type_name("FILE");
  command->add_flag("--any-version", f->options.any_version,
                    "Does not make runs again that another version of the program has made");
  command->add_flag("--dry-run", f->dry_run, "Prints the runs with their order and times, and makes none");
  f->plugins.add_to(*command);
  f->training.add_to(*command);
  command->footer(
      "What is there with the same recipe, the same data and of the same program version is not made again, what was\n"
      "interrupted goes on, and a failed run keeps no other from running. Runs that others took the place of are kept\n"
      "as NAME.before-1.\n"
      "Examples:\n"
      "  espalier reproduce --scale smoke --dry-run\n"
      "  espalier reproduce --scale smoke --jobs 2\n"
      "  espalier reproduce recipes/paper/003 --filter 'name=003-t4-c10-*' --scale short --seeds 0,1,2\n"
      "  espalier reproduce my-recipes --budget 8 --out /data/runs\n"
      "  espalier reproduce recipes/paper --launcher slurm --slurm cluster.yaml\n"
      "  espalier reproduce recipes/paper --launcher 'command: srun --gres=gpu:1 {command}' --jobs 8\n");
  command->callback([f] {
    if (f->options.scale == "paper") f->options.scale.clear();
    reproduce(*f);
  });
}

}  // namespace espalier
