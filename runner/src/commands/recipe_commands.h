#pragma once

#include <CLI/App.hpp>

namespace espalier {

// run, plan and validate: what is done with one recipe.
void add_recipe_commands(CLI::App& app);

}  // namespace espalier
