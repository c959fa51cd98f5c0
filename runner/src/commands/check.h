#pragma once

#include <CLI/App.hpp>

namespace espalier {

void add_check_command(CLI::App& app);

}  // namespace espalier
