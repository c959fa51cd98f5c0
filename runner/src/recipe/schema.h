#pragma once

#include "espalier/registry.h"
#include "espalier/value.h"

namespace espalier {

// A JSON Schema (draft 7, which editors know) of recipes that use the registered components, with all docs and
// defaults. It tells what can be told without a network; load_recipe() has the last word.
Value recipe_schema(const Registry& registry);

}  // namespace espalier
