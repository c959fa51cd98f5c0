#pragma once

#include <CLI/App.hpp>

namespace espalier {

void add_resume_command(CLI::App& app);

}  // namespace espalier
