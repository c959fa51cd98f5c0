#pragma once

#include <CLI/App.hpp>

namespace espalier {

// plugins: what is loaded, from where, and what is wrong with the rest.
void add_plugins_command(CLI::App& app);

}  // namespace espalier
