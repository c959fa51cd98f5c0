#include "commands/resume.h"

#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "commands/training_options.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "output/files.h"
#include "recipe/recipe.h"
#include "schedule.h"
#include "train/trainer.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

struct ResumeOptions {
  std::string run;
  std::vector<std::string> overrides;
  std::string device, from = "last";
  int64_t threads = 0;
  PluginOptions plugins;
  TrainingOptions training;
};

// Of environment.json, which is there unless the run was stopped before it had begun.
Value environment(const fs::path& run) {
  const fs::path file = run / "environment.json";
  return fs::exists(file) ? from_json(read_file(file), file.string()) : Value::map();
}

void add_recorded(const Value& environment, const char* key, std::vector<std::string>& folders) {
  const Value* recorded = environment.find(key);
  if (!recorded) return;
  for (const Value& folder : recorded->as_list()) {
    if (fs::exists(folder.as_string())) folders.push_back(folder.as_string());
  }
}

bool is_finished(const fs::path& run) {
  const fs::path file = run / "summary.json";
  return fs::exists(file) && from_json(read_file(file), file.string()).at("status").as_string() == "finished";
}

void resume(ResumeOptions o) {
  const fs::path run = o.run;
  if (!fs::is_directory(run)) throw InputError(o.run, "there is no such run folder");
  if (!fs::exists(run / "recipe.yaml"))
    throw InputError(o.run, "this is no run folder: it has no recipe.yaml (runs are kept in runs/ unless --out says otherwise)");
  if (is_finished(run)) {
    if (!o.training.quiet) std::cout << o.run << ": this run is finished\n";
    return;
  }
  const Value before = environment(run);
  add_recorded(before, "plugins", o.plugins.folders);
  add_recorded(before, "data", o.training.data);
  register_schedules(Registry::instance());
  o.plugins.load();
  std::vector<std::string> overrides = o.overrides;
  if (!o.device.empty()) overrides.push_back("device=" + o.device);
  Recipe recipe = load_recipe(run / "recipe.yaml", overrides, Registry::instance());
  if (o.threads > 0) {
    recipe.threads = o.threads;
  } else if (const Value* threads = before.find("threads"); threads && recipe.threads == 0) {
    recipe.threads = threads->as_int();  // another number would change the last digits
  }
  choose_device(recipe.device);
  TrainerOptions options = o.training.make(run, o.plugins);
  options.resume = true;
  options.resume_from = o.from;
  Trainer(recipe, options).run();
}

}  // namespace

void add_resume_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("resume", "Goes on with a run that was stopped, from its last checkpoint");
  auto o = std::make_shared<ResumeOptions>();
  command->add_option("run", o->run, "The run folder")->required()->type_name("RUN");
  command
      ->add_option("--set", o->overrides, "Changes a key of the recipe from here on, as often as needed")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--from", o->from, "Which checkpoint: last (default), previous, best (of the stage)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"last", "previous", "best"}));
  command->add_option("--device", o->device, "auto, cpu or cuda: overrides the recipe's")->type_name("DEVICE");
  command->add_option("--threads", o->threads, "CPU threads (default: as many as the run began with)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  o->training.add_to(*command);
  o->plugins.add_to(*command);
  command->footer(
      "On the CPU of the same kind and with as many threads, the run ends with the same bytes as one that was never "
      "stopped.\n\nExamples:\n"
      "  espalier resume runs/quickstart-seed0\n"
      "  espalier resume runs/quickstart-seed0 --from best --set stages.shrink.optimizers.sgd.lr=0.01\n");
  command->callback([o] { resume(*o); });
}

}  // namespace espalier
