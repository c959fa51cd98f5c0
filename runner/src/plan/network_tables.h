#pragma once

#include "espalier/graph.h"
#include "espalier/value.h"

// What a plan says of a network.
namespace espalier {

// [{name, operation, output, parameters, params, macs}], one for each node.
Value layers_of(const Graph& g);

// [{name, size, fixed, made_by, read_by}]
// Who shares each axis: nodes with parameters that make it, and nodes whose parameters read it from their input.
Value axes_of(const Graph& g);

}  // namespace espalier
