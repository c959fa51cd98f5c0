#pragma once

#include <filesystem>

#include "espalier/value.h"

namespace espalier {

// Reads a recipe and everything that it extends: `extends: FILE` or a list of files, relative to the recipe's own
// folder, merged in order, the recipe itself last. Throws InputError where one is missing or extends itself, naming the
// chain.
Value read_extended(const std::filesystem::path& file);

}  // namespace espalier
