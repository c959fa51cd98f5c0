#pragma once

#include <set>
#include <string>

#include "espalier/api.h"
#include "espalier/graph.h"

namespace espalier {

// Residual blocks: the scopes that hold a sum, "layer1.0" where there is a node "layer1.0.add".
ESPALIER_API std::set<std::string> residual_blocks(const Graph& graph);
// The innermost of these blocks that the parameter's node lies in, or "": stems lie in none.
ESPALIER_API std::string block_of(const Graph& graph, ParamId parameter, const std::set<std::string>& blocks);

// Whether it is the weight of a convolution with kernels larger than 1.
ESPALIER_API bool is_spatial(const Graph& graph, ParamId parameter);

}  // namespace espalier
