#pragma once

#include <vector>

#include "espalier/component.h"

namespace espalier {

// The losses and the metrics of the SDK, for the registry.
std::vector<Component> builtin_losses();
// The specs of the components of a kind that say they are what a task has where a recipe names none, by the word
// "default:TASK" among what they provide; by their names.
std::vector<Value> brought_for(const char* kind, const std::string& task);
std::vector<Component> builtin_metrics();

}  // namespace espalier
