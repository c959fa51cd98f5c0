#pragma once

#include <vector>

#include "espalier/value.h"
#include "recipe/component_specs.h"
#include "recipe/recipe.h"

namespace espalier {

// What the first stage goes on with where it says nothing else: what the recipe has. A stage that has data or a network
// of its own replaces it for those after it.
struct InForce {
  Value data;  // as written
  Value network{};
  Value dataset{};
  double validation = 0;
};

// Reads the section `stages`. resolved: all of it, with its defaults. What each stage publishes is added to `specs`.
// Throws InputError at the recipe's place.
void read_stages(const Value& given, InForce in_force, ComponentSpecs& specs, std::vector<StageSection>& stages,
                 Value& resolved);

}  // namespace espalier
