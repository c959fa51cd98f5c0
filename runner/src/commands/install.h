#pragma once

#include <CLI/App.hpp>

namespace espalier {

// install and uninstall.
void add_install_commands(CLI::App& app);

}  // namespace espalier
