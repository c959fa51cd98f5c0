#pragma once

#include <set>
#include <string>

#include "espalier/api.h"
#include "espalier/graph.h"

namespace espalier {

// Returns the names of the residual blocks: the scopes that hold a sum, "layer1.0" if there is a node "layer1.0.add".
ESPALIER_API std::set<std::string> residual_blocks(const Graph& graph);
// Returns the innermost of these blocks in which the parameter's node lies, or "" if it lies in none, as stems do.
ESPALIER_API std::string block_of(const Graph& graph, ParamId parameter, const std::set<std::string>& blocks);

// Returns whether the parameter is the weight of a convolution with kernels larger than 1 x 1.
ESPALIER_API bool is_spatial(const Graph& graph, ParamId parameter);

}  // namespace espalier
