#pragma once

#include <vector>

#include "espalier/component.h"

namespace espalier {

// The losses and the metrics of the SDK, for the registry.
std::vector<Component> builtin_losses();
std::vector<Component> builtin_metrics();

}  // namespace espalier
