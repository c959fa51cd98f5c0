#include "commands/recipe_commands.h"

#include <cstdio>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/recipe_options.h"
#include "commands/training_options.h"
#include "espalier/registry.h"
#include "output/run_folder.h"
#include "recipe/recipe.h"
#include "train/plan.h"
#include "train/trainer.h"

namespace espalier {

void add_recipe_commands(CLI::App& app) {
  auto options = std::make_shared<RecipeOptions>();

  CLI::App* run = app.add_subcommand("run", "Trains what a recipe describes and leaves a run folder");
  struct RunFlags {
    std::string out;
    TrainingOptions training;
  };
  auto flags = std::make_shared<RunFlags>();
  options->add_to(*run);
  run->add_option("--out", flags->out, "The run folder, new or empty (default: runs/NAME-seedN)")->type_name("DIR");
  flags->training.add_to(*run);
  run->footer(
      "Examples:\n"
      "  espalier run recipes/quickstart.yaml\n"
      "  espalier run recipes/quickstart.yaml --seed 1 --out runs/second\n"
      "  espalier run recipes/quickstart.yaml --set stages.shrink.epochs=2 --set stages.0.optimizer.lr=0.1\n");
  run->callback([options, flags] {
    const Recipe recipe = options->load();
    plan_recipe(recipe);  // what can be known to be wrong is known before anything is loaded or written
    choose_device(recipe.device);
    TrainerOptions training = flags->training.make({}, options->plugins);
    training.out = RunFolder::make(flags->out, recipe.name, recipe.seed);
    Trainer(recipe, training).run();
  });

  CLI::App* plan = app.add_subcommand(
      "plan", "Shows what a recipe would do: layers, shapes, parameters, MACs, what selectors match, memory");
  auto plan_options = std::make_shared<RecipeOptions>();
  auto json = std::make_shared<bool>(false);
  plan_options->add_to(*plan);
  plan->add_flag("--json", *json, "Prints JSON: {name, network: {params, macs, layers}, selectors, stages, memory}");
  plan->footer("Example:\n  espalier plan recipes/quickstart.yaml --set network.conv1=32\n");
  plan->callback([plan_options, json] {
    const Value p = plan_recipe(plan_options->load());
    std::cout << (*json ? to_json(p, 1) + "\n" : plan_text(p));
  });

  CLI::App* validate = app.add_subcommand("validate", "Checks recipes without training");
  auto validate_options = std::make_shared<RecipeOptions>();
  validate_options->add_to(*validate);
  validate->footer("Example:\n  espalier validate my-recipe.yaml\n");
  validate->callback([validate_options] {
    const Recipe recipe = validate_options->load();
    plan_recipe(recipe);
    std::cout << validate_options->recipe << ": fine (" << recipe.name << ", " << recipe.stages.size()
              << (recipe.stages.size() == 1 ? " stage)\n" : " stages)\n");
  });
}

}  // namespace espalier
