#include "commands/recipe_options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "espalier/registry.h"
#include "schedule.h"

namespace espalier {

void RecipeOptions::add_to(CLI::App& command) {
  command.add_option("recipe", recipe, "The recipe, a YAML file")->required()->type_name("FILE");
  command
      .add_option("--set", overrides,
                  "Overrides a key, as often as needed: --set stages.shrink.epochs=2 (list items by name or index)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command.add_option("--seed", seed, "Overrides the recipe's seed")->type_name("N");
  command.add_option("--device", device, "auto, cpu or cuda: overrides the recipe's")->type_name("DEVICE");
  command.add_option("--threads", threads, "Overrides the recipe's number of CPU threads; 0: all cores")
      ->type_name("N");
  plugins.add_to(command);
}

Recipe RecipeOptions::load() const {
  register_schedules(Registry::instance());
  plugins.load();
  std::vector<std::string> all = overrides;
  if (!seed.empty()) all.push_back("seed=" + seed);
  if (!device.empty()) all.push_back("device=" + device);
  if (!threads.empty()) all.push_back("threads=" + threads);
  return load_recipe(recipe, all, Registry::instance());
}

}  // namespace espalier
