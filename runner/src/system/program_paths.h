#pragma once

#include <filesystem>

namespace espalier {

// The folder that holds bin/, lib/ and share/: the build tree has the layout of an installation. Empty where the system
// does not tell which program runs.
std::filesystem::path program_prefix();

}  // namespace espalier
