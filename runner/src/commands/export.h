#pragma once

#include <CLI/App.hpp>

namespace espalier {

// export RUN --to FORMAT: the trained network for programs that know nothing of Espalier.
void add_export_command(CLI::App& app);

}  // namespace espalier
