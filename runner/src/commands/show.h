#pragma once

#include <CLI/App.hpp>

namespace espalier {

// show RUN: the stages and edits of a run, and what each of its checkpoints holds.
void add_show_command(CLI::App& app);

}  // namespace espalier
