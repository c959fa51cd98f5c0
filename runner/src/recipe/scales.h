#pragma once

#include <filesystem>
#include <string>

#include "espalier/value.h"

// The section `scales`: named changes of a recipe, for runs of other sizes. scales_of() is in recipe.h.
namespace espalier {

// Takes the scales out and carries out the changes of one; its name becomes part of the recipe's. Throws InputError
// where the recipe has none of this name. Where the name is empty, it changes nothing else.
void apply_scale(Value& tree, const std::filesystem::path& path, const std::string& scale);

}  // namespace espalier
