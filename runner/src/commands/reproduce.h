#pragma once

#include <CLI/App.hpp>

namespace espalier {

// reproduce [PATH...]: all runs that recipes stand for, in the order of their needs.
void add_reproduce_command(CLI::App& app);

}  // namespace espalier
