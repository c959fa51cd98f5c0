#pragma once

#include "espalier/value.h"
#include "recipe/recipe.h"

namespace espalier {

// The libraries that a run uses, [{name, version, path, sha256}]: the program, the SDK, the plugins whose components
// the recipe names, and those that offer operations, which backbones may take from anywhere.
Value libraries_of(const Recipe& recipe);

// What differs between the libraries of a run and those of its continuation, a line each; where they lie does not
// count.
std::vector<std::string> library_differences(const Value& before, const Value& now);

}  // namespace espalier
