#pragma once

#include <optional>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/graph.h"

namespace espalier {

// The number that holds for a parameter or a width: of the first selector that names it, none where no selector does.
ESPALIER_API std::optional<double> value_for(const PerSelector& values, const Graph& graph, ParamId parameter);
ESPALIER_API std::optional<double> value_for(const PerSelector& values, const Graph& graph, Axis axis);

}  // namespace espalier
