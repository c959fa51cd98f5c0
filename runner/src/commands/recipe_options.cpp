#include "commands/recipe_options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "espalier/error.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"

namespace espalier {

void RecipeOptions::add_to(CLI::App& command) {
  command.add_option("recipe", recipe, "The recipe, a YAML file")->required()->type_name("FILE");
  add_settings_to(command);
}

void RecipeOptions::add_settings_to(CLI::App& command) {
  command
      .add_option("--set", overrides,
                  "Overrides a key, as often as needed: --set stages.shrink.epochs=2 (list items by name or index)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command.add_option("--scale", scale, "One of the recipe's `scales`: --scale smoke")->type_name("NAME");
  command.add_option("--seed", seed, "Overrides the recipe's seed")->type_name("N");
  command.add_option("--device", device, "auto, cpu or cuda: overrides the recipe's")->type_name("DEVICE");
  command.add_option("--threads", threads, "Overrides the recipe's number of CPU threads; 0: all cores")
      ->type_name("N");
  plugins.add_to(command);
}

LoadedRecipe RecipeOptions::load() const {
  load_plugins();
  return read(recipe, scale);
}

void RecipeOptions::load_plugins() const {
  register_builtin(Registry::instance());
  plugins.load();
}

LoadedRecipe RecipeOptions::read(const std::string& file, const std::string& of_scale) const {
  std::vector<std::string> all = overrides;
  if (!seed.empty()) all.push_back("seed=" + seed);
  if (!device.empty()) all.push_back("device=" + device);
  if (!threads.empty()) all.push_back("threads=" + threads);
  LoadedRecipe loaded{read_recipe(file, all, of_scale), {}};
  loaded.points = matrix_points(loaded.tree);
  if (loaded.points.empty()) loaded.tree.erase("matrix");  // null
  return loaded;
}

Recipe RecipeOptions::load_one() const {
  const LoadedRecipe loaded = load();
  if (!loaded.points.empty())
    throw InputError(recipe, "this recipe has a matrix: take one of its runs (--set matrix= --set KEY=VALUE)");
  return check_recipe(loaded.tree, Registry::instance());
}

}  // namespace espalier
