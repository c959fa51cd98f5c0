#pragma once

#include <CLI/App.hpp>

namespace espalier {

// describe NAME: the parameters of a component, or the keys of a part of a recipe.
void add_describe_command(CLI::App& app);

}  // namespace espalier
