#pragma once

#include "espalier/registry.h"
#include "espalier/schedule.h"

namespace espalier {

// Adds the built-in schedules: constant, step, cosine, plateau.
void register_schedules(Registry& registry);

}  // namespace espalier
