#pragma once

#include <cstdint>
#include <vector>

#include "espalier/api.h"
#include "espalier/selector.h"
#include "espalier/weights.h"

namespace espalier {

// The filters of a convolution or the units of a linear layer: equally long, consecutive pieces of an arena.
struct GroupFamily {
  ParamId parameter;
  Axis axis;           // whose positions they are
  int64_t offset = 0;  // of the first group, in the arena of weights
  int64_t count = 0;   // groups
  int64_t size = 0;    // elements of each
};

// The output filters and units of the selected weights. A layer whose width is given from outside (the classes) has
// none.
ESPALIER_API std::vector<GroupFamily> output_groups(const Graph& graph, const Weights& weights, const Selector& on);

// The l2 (p = 1: l1) norms of an axis's filters or units, on the CPU in float64; over all weights that make the axis
// together (shared axes).
ESPALIER_API std::vector<double> filter_norms(const Graph& graph, const Weights& weights, Axis axis, int p = 2);

}  // namespace espalier
