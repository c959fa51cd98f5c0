#pragma once

#include <filesystem>
#include <optional>

namespace espalier {

// The folder that holds bin/, lib/ and share/: the build tree has the layout of an installation. Empty where the system
// does not tell which program runs.
std::filesystem::path program_prefix();

// The folder for what the program keeps for its user: espalier/ in $XDG_DATA_HOME, or in ~/.local/share. None where
// the environment names no home.
std::optional<std::filesystem::path> user_data_folder();

}  // namespace espalier
