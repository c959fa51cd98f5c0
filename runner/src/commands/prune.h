#pragma once

#include <CLI/App.hpp>

namespace espalier {

// prune RUN_OR_FILE: a smaller network of a trained one, without a recipe.
void add_prune_command(CLI::App& app);

}  // namespace espalier
