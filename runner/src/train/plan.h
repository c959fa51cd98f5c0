#pragma once

#include <string>

#include "recipe/recipe.h"

namespace espalier {

// What a recipe would do, without data and without training: {name, network: {params, macs, layers: [{name, operation,
// output, parameters, params, macs}]}, selectors: [{where, selector, matches}], stages: [{name, epochs, ...}], memory:
// {...}}. Throws InputError for a selector that matches nothing.
Value plan_recipe(const Recipe& recipe);

// The same as tables.
std::string plan_text(const Value& plan);

}  // namespace espalier
