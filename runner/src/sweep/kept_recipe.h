#pragma once

#include <filesystem>

#include "espalier/value.h"

namespace espalier {

// recipe.json of a sweep's folder: the recipe with its matrix as it was read, what it extends and --set included, and
// where each value was written. Errors name these places also when runs are added, and paths are relative to the files
// that they were written in, whether these are still there or not.
void keep_recipe(const std::filesystem::path& sweep, const Value& tree);

// Throws InputError where the sweep has none, or it cannot be read.
Value kept_recipe(const std::filesystem::path& sweep);

}  // namespace espalier
