#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "commands/plugin_options.h"
#include "recipe/recipe.h"
#include "sweep/matrix.h"

namespace espalier {

// A recipe as it stands, and the runs of its matrix.
struct LoadedRecipe {
  Value tree;
  std::vector<MatrixPoint> points;  // empty: the recipe is one run
};

// What commands that read a recipe take.
struct RecipeOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  std::string scale, seed, device, threads;
  PluginOptions plugins;

  void add_to(CLI::App& command);
  // The same without the recipe, for commands that take several.
  void add_settings_to(CLI::App& command);
  // Loads the plugins and the recipe.
  LoadedRecipe load() const;
  void load_plugins() const;
  // A recipe, or with `scale` one of its scales, once the plugins are loaded.
  LoadedRecipe read(const std::string& file, const std::string& scale) const;
  // The same for commands that take one run. Throws InputError where the recipe has a matrix.
  Recipe load_one() const;
};

}  // namespace espalier
