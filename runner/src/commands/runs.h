#pragma once

#include <CLI/App.hpp>

namespace espalier {

// runs list | show | compare | rm | export | rebuild: what the store knows of all runs.
void add_runs_command(CLI::App& app);

}  // namespace espalier
