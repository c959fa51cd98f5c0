#pragma once

#include <optional>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/graph.h"

namespace espalier {

// Returns the number that holds for a parameter: that of the first selector that names it, or the one number for all.
// Returns nothing if there are selectors and none of them names it.
ESPALIER_API std::optional<double> value_for(const PerSelector& values, const Graph& graph, ParamId parameter);
// Returns the number that holds for a width: that of the first selector that names one of the weights which make it.
ESPALIER_API std::optional<double> value_for(const PerSelector& values, const Graph& graph, Axis axis);

}  // namespace espalier
