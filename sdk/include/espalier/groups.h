#pragma once

#include <cstdint>
#include <vector>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/selector.h"
#include "espalier/weights.h"

namespace espalier {

// The filters of a convolution or the units of a linear layer as groups of elements of the arena of weights. A layer
// with groups or heads has one group for each position within a group or head: the filters that can only go together.
// Element i of piece j of group k lies at offset + k * size + j * stride + i.
struct GroupFamily {
  ParamId parameter;
  Axis axis;           // whose positions the groups are
  int64_t offset = 0;  // of the first group, in the arena of weights
  int64_t count = 0;   // groups
  int64_t size = 0;    // consecutive elements of each piece
  int64_t pieces = 1;  // of each group
  int64_t stride = 0;  // from one piece of a group to the next
};

// The output filters and units of the selected weights, by the widths of filter_axes(). A layer whose width is given
// from outside (the classes) has none.
ESPALIER_API std::vector<GroupFamily> output_groups(const Graph& graph, const Weights& weights, const Selector& on);

// What goes of a layer with groups or heads: the same positions of each, or whole ones.
enum class FilterUnit { within_groups, whole_groups };

// The widths that edits may change and whose filters or units are those of the selected weights, in the graph's order.
// Of a layer with groups (heads) the width of each group, or the number of groups. An empty selector: of all weights.
ESPALIER_API std::vector<Axis> filter_axes(const Graph& graph, const Selector& on,
                                           FilterUnit unit = FilterUnit::within_groups);

// For components that judge filters by their weights. Throws Error where a term of the selector matches nothing, or
// names parameters that are not filters or units (a batch norm's scales, biases): `what` begins the message ("`on`").
ESPALIER_API void require_filters(const Graph& graph, const Selector& on, const std::string& what);
ESPALIER_API void require_filters(const Graph& graph, const PerSelector& values, const std::string& what);

// The l2 (p = 1: l1) norms of an axis's filters or units, [size of the axis], on the CPU in float64; over all weights
// that make the axis together (shared widths, groups, heads). Throws Error where no weight makes the axis (an index
// view's).
ESPALIER_API std::vector<double> filter_norms(const Graph& graph, const Weights& weights, Axis axis, int p = 2);

}  // namespace espalier
