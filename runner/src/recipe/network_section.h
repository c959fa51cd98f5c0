#pragma once

#include "espalier/value.h"
#include "recipe/component_specs.h"
#include "recipe/recipe.h"

// The section `network`, of a recipe or of a stage. The functions throw InputError at the recipe's place.
namespace espalier {

// A network without `use` has the structure of the run that its values come from. `section` is what holds the network:
// the recipe or a stage. Returns it with all of that said.
Value with_whole_network(const Value& section, const ComponentSpecs& specs);

// The backbone's spec, checked, without the keys that any network takes.
Value read_network(const Value& given, WarmStart& start, Value& resolved, const ComponentSpecs& specs);

}  // namespace espalier
