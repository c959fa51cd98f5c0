#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "plugins/loader.h"

namespace espalier {

// What a JSON file of a run holds; an empty map where there is none: the run may have been stopped before it had begun.
Value recorded(const std::filesystem::path& file);

// Adds the folders that environment.json says the run used ("plugins", "data"), where they are still there.
void add_recorded(const Value& environment, const char* key, std::vector<std::string>& folders);

// Names the plugins that environment.json says the run used and that are not loaded: what the recipe says of their
// components then makes no sense.
void warn_of_missing_plugins(const Value& environment, const PluginReport& loaded);

// Throws InputError where this is no folder of a run.
void require_run(const std::filesystem::path& run);

}  // namespace espalier
