#pragma once

#include <string_view>

#include "recipe/recipe.h"

namespace espalier {

// Whether a name under `expect` is STAGE.NAME, something that a stage of the recipe measures at its end. Which names
// there are is known once the stage has run.
bool is_measured_by_a_stage(std::string_view name, const Recipe& recipe);

}  // namespace espalier
