#pragma once

#include <string>

#include "espalier/graph.h"
#include "recipe/recipe.h"

namespace espalier {

// What a recipe would do, without data and without training: {name, network: {params, macs, layers: [{name, operation,
// output, parameters, params, macs}], axes: [{name, size, fixed, made_by, read_by}]}, selectors: [{where, selector,
// matches}], stages: [{name, epochs, ..., outlook: [line], norms: [line], step: {passes, copies, data, macs}}],
// beginnings: [line], notes: [line], memory: {...}}. Throws InputError for a selector that matches nothing. Without
// `with_values` it leaves out what is known only of the network's values, which take time and memory to draw: `norms`.
//
// Runs of needed recipes that are not there yet are refused, or else each is a note, and what depends on it is left
// out: `network` and `memory` are null where they are not known.
enum class MissingRuns { refused, noted };
Value plan_recipe(const Recipe& recipe, bool with_values = true, MissingRuns missing = MissingRuns::refused);

// The same as tables; of many axes only the first, unless `all_axes`.
std::string plan_text(const Value& plan, bool all_axes = false);

// The network as the backbone builds it, before the first stage's controller changes anything. Throws InputError where
// it is that of a run which does not exist yet.
Graph planned_network(const Recipe& recipe);

}  // namespace espalier
