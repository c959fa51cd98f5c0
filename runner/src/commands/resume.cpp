#include "commands/resume.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Error.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "commands/join.h"
#include "commands/plugin_options.h"
#include "commands/training_options.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"
#include "recipe/recipe.h"
#include "record/recorded.h"
#include "record/summary.h"
#include "sweep/sweep.h"
#include "train/trainer.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

struct ResumeOptions {
  std::string run;
  std::vector<std::string> overrides;
  std::string device, from = "last";
  bool changed_data = false;
  int64_t threads = 0;
  int jobs = 0;
  std::string front;
  PluginOptions plugins;
  TrainingOptions training;
};

// How the data are fed may change in a run that has begun; what they are and the network may not.
void require_changeable(const std::string& set) {
  if (set.starts_with("stages.")) return;
  const std::string key = set.substr(0, set.find('='));
  for (const char* allowed : {"data.batch", "data.eval_batch", "data.drop_last", "data.workers"}) {
    if (key == allowed) return;
  }
  throw InputError("--set " + set,
                   "of a run that has begun only the stages (stages.NAME...) and data.batch, data.eval_batch, "
                   "data.drop_last and data.workers can be changed");
}

// How a finished run is trained further: a command.
std::string further(const fs::path& run, const Summary& summary) {
  if (summary.stages.empty()) return "";
  const StageSummary& last = summary.stages.back();
  return "; to train it further: espalier resume " + run.string() + " --set stages." + last.name +
         ".epochs=" + std::to_string(2 * std::max<int64_t>(1, last.epochs));
}

// Of a sweep runs can be added, by its matrix.
void require_matrix(const std::string& set) {
  const std::string path = set.substr(0, set.find('='));
  if (path != "matrix" && !path.starts_with("matrix.")) {
    throw InputError("--set " + set,
                     "of a sweep only the matrix can be changed, so that runs are added: --set matrix.random=80, or "
                     "--set matrix.seed='[0, 1, 2, 3]'; resume one of its runs to change that one");
  }
}

void resume_whole(ResumeOptions& o) {
  const fs::path folder = o.run;
  if (!o.device.empty() || o.threads > 0 || o.from != "last" || o.changed_data) {
    throw InputError(o.run,
                     "of a whole sweep --device, --threads, --from and --changed-data cannot be given: resume one "
                     "of its runs");
  }
  for (const std::string& set : o.overrides) require_matrix(set);
  SweepOptions sweep = o.training.of_sweep(o.plugins);
  const Value saved = recorded(folder / "sweep.json");
  sweep.jobs = o.jobs > 0 ? o.jobs : static_cast<int>(saved.at("jobs").as_int());
  sweep.front = o.front;
  if (!o.overrides.empty()) {  // new runs are checked and planned
    add_recorded(saved, "plugins", o.plugins.folders);
    register_builtin(Registry::instance());
    o.plugins.load();
  }
  const int status = resume_sweep(folder, sweep, o.overrides);
  if (status != 0) throw CLI::RuntimeError(status);
}

void resume(ResumeOptions o) {
  Joined joined;
  const fs::path run = o.run;
  if (!fs::is_directory(run)) {
    throw InputError(o.run, std::string("there is no such run folder") +
                                (joined.several() ? "; all processes of a run read it when they go on" : ""));
  }
  if (is_sweep(run)) {
    if (joined.several()) throw InputError(o.run, "is a sweep, which several processes cannot go on with as one run");
    resume_whole(o);
    return;
  }
  require_run(run);
  for (const std::string& set : o.overrides) require_changeable(set);
  const std::optional<Summary> summary = Summary::read(run);
  const bool finished = summary && summary->is_finished();
  if (finished && o.overrides.empty() && o.from == "last") {
    if (!o.training.quiet) std::cout << o.run << ": this run is finished" << further(run, *summary) << "\n";
    return;
  }
  const Value before = recorded(run / "environment.json");
  add_recorded(before, "plugins", o.plugins.folders);
  add_recorded(before, "data", o.training.data);
  search_data_in(o.training.data);
  register_builtin(Registry::instance());
  warn_of_missing_plugins(before, o.plugins.load());
  std::vector<std::string> overrides = o.overrides;
  if (!o.device.empty()) overrides.push_back("device=" + o.device);
  Recipe recipe = load_recipe(run / "recipe.yaml", overrides, Registry::instance());
  if (o.threads > 0) {
    recipe.threads = o.threads;
  } else if (const Value* threads = before.find("threads");
             threads && recipe.threads == 0 && before.find("processes") == nullptr && !joined.several()) {
    recipe.threads = threads->as_int();  // another number would change the last digits
  }
  choose_device(recipe.device);
  TrainerOptions options = o.training.of_run(o.plugins);
  options.out = run;
  options.resume = true;
  options.resume_from = o.from;
  options.finished = finished;
  options.changed_data = o.changed_data;
  joined.meet(recipe, options);
  joined.together([&] {
    if (!joined.leads()) {
      options.original = run;
      options.out = joined.scratch();
    }
    Trainer(recipe, options).run();
  });
}

}  // namespace

void add_resume_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("resume", "Goes on with a run or a sweep that was stopped, from the last checkpoints");
  auto o = std::make_shared<ResumeOptions>();
  command->add_option("run", o->run, "The folder of a run or of a sweep")->required()->type_name("RUN");
  command
      ->add_option(
          "--set", o->overrides,
          "Changes a key of the recipe from here on, as often as needed; of a sweep, its matrix: runs are added")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--from", o->from, "Which checkpoint: last (default), previous, best (of the stage)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"last", "previous", "best"}));
  command->add_flag("--changed-data", o->changed_data,
                    "Goes on although the data are not those that the run began with");
  command->add_option("--device", o->device, "auto, cpu or cuda: overrides the recipe's")->type_name("DEVICE");
  command->add_option("--threads", o->threads, "CPU threads (default: as many as the run began with)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command->add_option("--jobs", o->jobs, "Runs of a sweep at a time (default: as it began)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--front", o->front,
                   "Size that the front of a sweep compares, params or macs (default: as it began)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"params", "macs"}));
  o->training.add_to(*command);
  o->plugins.add_to(*command);
  command->footer(
      "On the CPU of the same kind and with as many threads, the run ends with the same bytes as one that was never "
      "stopped.\n\nExamples:\n"
      "  espalier resume runs/quickstart-seed0\n"
      "  espalier resume runs/quickstart-seed0 --set stages.finetune.epochs=8    trains a finished run further\n"
      "  espalier resume runs/search --set matrix.random=80    adds runs to a sweep of fewer random draws\n"
      "  espalier resume runs/quickstart-seed0 --from best --set stages.shrink.optimizers.sgd.lr=0.01\n");
  command->callback([o] { resume(*o); });
}

}  // namespace espalier
