#pragma once

#include <CLI/App.hpp>

namespace espalier {

// new KIND NAME: writes a plugin outside of the tree that builds and passes its test as it is.
void add_new_command(CLI::App& app);

}  // namespace espalier
