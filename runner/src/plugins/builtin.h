#pragma once

#include "espalier/registry.h"

namespace espalier {

// Adds the components that the program itself offers, beside the SDK's operations: the controller of ordinary training,
// schedules and augmentations. A second time it does nothing.
void register_builtin(Registry& registry);

}  // namespace espalier
