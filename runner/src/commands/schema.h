#pragma once

#include <CLI/App.hpp>

namespace espalier {

// schema: a JSON Schema of recipes, for editors.
void add_schema_command(CLI::App& app);

}  // namespace espalier
