#pragma once

#include "espalier/builder.h"
#include "recipe/recipe.h"

namespace espalier {

// The spec of a stage's loss: the section's own, or that of the task, with the stage's label smoothing. Throws
// InputError at the stage if the task has none, or none that smooths labels.
Value loss_of(const StageSection& stage, const TargetSpec& target);

}  // namespace espalier
