#pragma once

#include "espalier/value.h"
#include "recipe/component_specs.h"
#include "recipe/recipe.h"

// The section `data`, of a recipe or of a stage.
namespace espalier {

// `data: mnist` is short for {use: mnist}.
Value data_as_map(const Value& data);

// Reads the section, as a map. resolved: all of it, with its defaults. Throws InputError at the recipe's place.
DataSection read_data(const Value& data, Value& resolved, const ComponentSpecs& specs);

}  // namespace espalier
