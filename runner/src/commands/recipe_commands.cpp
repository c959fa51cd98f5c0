#include "commands/recipe_commands.h"

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "commands/join.h"
#include "commands/recipe_options.h"
#include "commands/training_options.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/registry.h"
#include "export/drawing.h"
#include "plan/plan.h"
#include "recipe/recipe.h"
#include "record/run_folder.h"
#include "sweep/draws.h"
#include "sweep/report.h"
#include "sweep/sweep.h"
#include "train/trainer.h"

namespace espalier {

namespace {

// What may be meant and may be a mistake.
void warn(const Value& notes) {
  for (const Value& note : notes.as_list()) log::warning(note.as_string());
}

// {name, runs: [{name, draw, values, plan}], notes}: each note once; `draw` of random draws. missing: gets the folders
// of runs of other recipes that do not exist yet, each of which is noted once, too, wherever the runs name it.
Value plan_matrix(const Value& tree, const std::vector<MatrixPoint>& points, std::set<std::filesystem::path>& missing) {
  Value result = Value::map({{"name", ""}, {"runs", Value::list()}, {"notes", Value::list()}});
  std::set<std::string> notes;
  for_each_run(tree, points, Registry::instance(), [&](const MatrixPoint& point, const Recipe& recipe) {
    result["name"] = recipe.name;
    const Value plan = plan_recipe(recipe, /*with_values=*/false, MissingRuns::noted);
    for (const MissingRun& m : recipe.missing_runs) {
      if (!missing.insert(m.folder).second) notes.insert(m.text);  // said already, of another place
    }
    for (const Value& note : plan.at("notes").as_list()) {
      if (notes.insert(note.as_string()).second) result["notes"].push_back(note);
    }
    Value run = Value::map({{"name", point.name}});
    if (point.draw) run["draw"] = *point.draw;
    run["values"] = point.values;
    run["plan"] = plan;
    result["runs"].push_back(std::move(run));
  });
  if (const std::string repeated = repeated_draws(tree.find("matrix"), points.size()); !repeated.empty())
    result["notes"].push_back(repeated);
  return result;
}

std::string matrix_plan_text(const Value& plans) {
  std::string text = plans.at("name").as_string() + ": " + std::to_string(plans.at("runs").size()) + " runs\n\n" +
                     matrix_plan_table(plans) + "\n";
  for (const Value& note : plans.at("notes").as_list()) text += "note: " + note.as_string() + "\n";
  return text + "One in full: espalier plan RECIPE --set matrix= --set KEY=VALUE\n";
}

std::string count_of(size_t n, const std::string& what) {
  return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

// ", without what depends on 2 runs of other recipes"
std::string without(size_t missing) {
  if (missing == 0) return "";
  return ", without what depends on " + (missing == 1 ? "a run" : count_of(missing, "run")) +
         (missing == 1 ? " of another recipe" : " of other recipes");
}

// Checks a recipe as it is loaded, and says what it holds: "quickstart, 2 stages". Warnings, where they are wanted.
std::string validated(const LoadedRecipe& loaded, bool warns) {
  if (loaded.points.empty()) {
    const Recipe recipe = check_recipe(loaded.tree, Registry::instance());
    const Value plan = plan_recipe(recipe, /*with_values=*/false, MissingRuns::noted);
    if (warns) warn(plan.at("notes"));
    return recipe.name + ", " + count_of(recipe.stages.size(), "stage") + without(recipe.missing_runs.size());
  }
  std::set<std::filesystem::path> missing;
  const Value plans = plan_matrix(loaded.tree, loaded.points, missing);
  if (warns) warn(plans.at("notes"));
  return plans.at("name").as_string() + ", " + count_of(loaded.points.size(), "run") + without(missing.size());
}

// The same for a file; where no scale is asked for, its scales are checked, too.
std::string validated(const RecipeOptions& options, const std::string& file) {
  std::string about = validated(options.read(file, options.scale), /*warns=*/true);
  if (!options.scale.empty()) return about;
  const std::vector<std::string> scales = scales_of(file);
  for (const std::string& scale : scales) {
    try {
      validated(options.read(file, scale), /*warns=*/false);
    } catch (const Error& e) {
      throw Error("with --scale " + scale + ": " + e.what());
    }
  }
  return about + (scales.empty() ? "" : ", " + count_of(scales.size(), "scale"));
}

}  // namespace

void add_recipe_commands(CLI::App& app) {
  auto options = std::make_shared<RecipeOptions>();

  CLI::App* run = app.add_subcommand("run", "Trains what a recipe describes and leaves a run folder");
  struct RunFlags {
    std::string out;
    int jobs = 1;
    std::string front = "params";
    std::string source, source_scale;  // of a run whose recipe was made of another
    TrainingOptions training;
  };
  auto flags = std::make_shared<RunFlags>();
  options->add_to(*run);
  run->add_option("--out", flags->out, "The run folder, new or empty (default: runs/NAME-seedN, of a matrix runs/NAME)")
      ->type_name("DIR");
  run->add_option("--jobs", flags->jobs, "Runs of a matrix at a time (default: 1); they share the CPU's cores")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  run->add_option("--front", flags->front, "Size that the front of a matrix compares: params (default) or macs")
      ->type_name("NAME")
      ->check(CLI::IsMember({"params", "macs"}));
  run->add_option("--source", flags->source)->group("");  // these two for sweeps and `reproduce`
  run->add_option("--source-scale", flags->source_scale)->group("");
  flags->training.add_to(*run);
  run->footer(
      "Examples:\n"
      "  espalier run recipes/quickstart.yaml\n"
      "  espalier run recipes/quickstart.yaml --seed 1 --out runs/second\n"
      "  espalier run recipes/quickstart.yaml --set stages.shrink.epochs=2 --set stages.0.optimizer.lr=0.1\n"
      "  espalier run recipes/quickstart.yaml --set 'matrix={seed: [0, 1, 2]}' --jobs 2\n"
      "  espalier run recipes/quickstart.yaml --set 'matrix={random: 50, draw: {stages.shrink.optimizer.lr: "
      "{log_uniform: "
      "[0.01, 1]}}}'\n");
  run->callback([options, flags] {
    Joined joined;
    const LoadedRecipe loaded = options->load();
    if (!loaded.points.empty()) {
      if (joined.several()) {
        throw InputError(options->recipe, "its matrix stands for several runs, and this is one of " +
                                              std::to_string(joined.count()) +
                                              " processes of one run (WORLD_SIZE): start the runs one by one");
      }
      SweepOptions sweep = flags->training.of_sweep(options->plugins);
      sweep.out = flags->out;
      sweep.jobs = flags->jobs;
      sweep.front = flags->front;
      sweep.source = std::filesystem::absolute(options->recipe).lexically_normal().string();
      sweep.scale = options->scale;
      const int status = run_sweep(loaded.tree, loaded.points, sweep);
      if (status != 0) throw CLI::RuntimeError(status);
      return;
    }
    Recipe recipe = check_recipe(loaded.tree, Registry::instance());
    // What can be known to be wrong is known before anything is loaded or written.
    warn(plan_recipe(recipe, /*with_values=*/false).at("notes"));
    choose_device(recipe.device);
    TrainerOptions training = flags->training.of_run(options->plugins);
    const bool own = flags->source.empty();
    training.origin["recipe"] =
        own ? std::filesystem::absolute(options->recipe).lexically_normal().string() : flags->source;
    training.origin["scale"] = own ? options->scale : flags->source_scale;
    joined.meet(recipe, training);
    joined.together([&] {
      std::optional<NewRunFolder> folder;
      if (joined.leads()) folder.emplace(flags->out, recipe.name, recipe.seed);
      training.out = joined.leads() ? folder->path() : joined.scratch();
      Trainer(recipe, training).run();
    });
  });

  CLI::App* plan = app.add_subcommand(
      "plan", "Shows what a recipe would do: layers, shapes, parameters, MACs, axes, what selectors match, memory");
  auto plan_options = std::make_shared<RecipeOptions>();
  struct PlanFlags {
    bool json = false, axes = false;
    std::string draw;
    std::vector<std::string> data;
  };
  auto plan_flags = std::make_shared<PlanFlags>();
  plan_options->add_to(*plan);
  add_data_option(*plan, plan_flags->data);
  plan->add_flag(
      "--json", plan_flags->json,
      "Prints JSON: {name, network: {params, macs, layers, axes}, selectors, stages, memory}; of a matrix {name, runs: "
      "[{name, draw, values, plan}]}, `draw` where it is one of random draws; `network` and `memory` are null where "
      "the "
      "network is that of a run which does not exist yet");
  plan->add_flag("--axes", plan_flags->axes, "Shows all axes, and everything that shares them");
  plan->add_option("--draw", plan_flags->draw,
                   "Draws the network with its widths: .svg or .png by Graphviz, .dot for it to draw")
      ->type_name("FILE");
  plan->footer(
      "Examples:\n"
      "  espalier plan recipes/quickstart.yaml --set network.conv1=32\n"
      "  espalier plan recipes/quickstart.yaml --draw lenet5.svg\n");
  plan->callback([plan_options, plan_flags] {
    if (!plan_flags->draw.empty()) {
      const Recipe recipe = plan_options->load_one();
      draw_network(planned_network(recipe), recipe.name, plan_flags->draw);
      std::cout << plan_flags->draw << "\n";
      return;
    }
    const LoadedRecipe loaded = plan_options->load();
    const bool one = loaded.points.empty();
    std::set<std::filesystem::path> missing;
    const Value p =
        one ? plan_recipe(check_recipe(loaded.tree, Registry::instance()), /*with_values=*/true, MissingRuns::noted)
            : plan_matrix(loaded.tree, loaded.points, missing);
    std::cout << (plan_flags->json ? to_json(p, 1) + "\n" : one ? plan_text(p, plan_flags->axes) : matrix_plan_text(p));
  });

  CLI::App* validate = app.add_subcommand("validate", "Checks recipes, and their scales, without training");
  auto validate_options = std::make_shared<RecipeOptions>();
  auto recipes = std::make_shared<std::vector<std::string>>();
  validate->add_option("recipes", *recipes, "The recipes, YAML files")->required()->type_name("FILE...");
  validate_options->add_settings_to(*validate);
  auto validate_data = std::make_shared<std::vector<std::string>>();
  add_data_option(*validate, *validate_data);
  validate->footer("Examples:\n  espalier validate my-recipe.yaml\n  espalier validate recipes/*.yaml\n");
  validate->callback([validate_options, recipes, validate_data] {
    validate_options->load_plugins();
    bool fine = true;
    for (const std::string& file : *recipes) {
      try {
        const std::string about = validated(*validate_options, file);
        std::cout << file << ": fine (" << about << ")" << std::endl;
      } catch (const Error& e) {  // the others may be fine
        if (recipes->size() == 1) throw;
        log::error(e.what());
        fine = false;
      }
    }
    if (!fine) throw CLI::RuntimeError(1);
  });
}

}  // namespace espalier
