#pragma once

#include <CLI/App.hpp>

namespace espalier {

// report [SELECTION...]: what runs came to, beside what the papers printed, as a page or as tables.
void add_report_command(CLI::App& app);

}  // namespace espalier
