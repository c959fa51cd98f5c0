#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "commands/plugin_options.h"
#include "recipe/recipe.h"

namespace espalier {

// What commands that read a recipe take.
struct RecipeOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  std::string seed, device, threads;
  PluginOptions plugins;

  void add_to(CLI::App& command);
  // Loads the plugins and the recipe.
  Recipe load() const;
};

}  // namespace espalier
