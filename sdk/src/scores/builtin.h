#pragma once

#include <vector>

#include "espalier/component.h"

namespace espalier {

// The scores of the SDK, for the registry.
std::vector<Component> builtin_scores();

// Those that look at the weights alone, at gradients, and at feature maps.
std::vector<Component> weight_scores();
std::vector<Component> gradient_scores();
std::vector<Component> feature_scores();
std::vector<Component> reconstruction_scores();

}  // namespace espalier
