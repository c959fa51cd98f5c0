#pragma once

#include <CLI/App.hpp>

namespace espalier {

// data list, data fetch and data check.
void add_data_command(CLI::App& app);

}  // namespace espalier
