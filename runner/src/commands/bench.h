#pragma once

#include <CLI/App.hpp>

namespace espalier {

void add_bench_command(CLI::App& app);

}  // namespace espalier
