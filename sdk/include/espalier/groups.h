#pragma once

#include <cstdint>
#include <vector>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/selector.h"
#include "espalier/weights.h"

namespace espalier {

// The filters of a convolution or the units of a linear layer as groups of elements of the arena of the role "weight".
// A layer with groups or heads has one group for each position within a group or head: the filters that can only go
// together. Element i of piece j of group k lies at offset + k * size + j * stride + i. All numbers count elements.
struct GroupFamily {
  ParamId parameter;   // the weight that holds the groups
  Axis axis;           // the width; its positions are the groups
  int64_t offset = 0;  // where the first group begins in the arena
  int64_t count = 0;   // how many groups there are
  int64_t size = 0;    // how many consecutive elements a piece has
  int64_t pieces = 1;  // how many pieces a group has
  int64_t stride = 0;  // from one piece of a group to the next
};

// Returns the output filters and units of the selected weights, a family for each width. A layer whose width is given
// from outside (the classes) has none.
ESPALIER_API std::vector<GroupFamily> output_groups(const Graph& graph, const Weights& weights, const Selector& on);

// What can be removed of a layer with groups or heads: the same positions within each group, or whole groups.
enum class FilterUnit { within_groups, whole_groups };

// Returns the widths that edits may change and whose filters or units belong to the selected weights, in the order of
// the graph. For a layer with groups or heads this is the width of one group, or the number of groups. An empty
// selector selects all weights.
ESPALIER_API std::vector<Axis> filter_axes(const Graph& graph, const Selector& on,
                                           FilterUnit unit = FilterUnit::within_groups);

// Throws Error if a term of the selector matches nothing, or names only parameters that are not filters or units (the
// scales of a batch norm, biases). Components that judge filters by their weights call it in check(). `what` begins the
// message: "`on`".
ESPALIER_API void require_filters(const Graph& graph, const Selector& on, const std::string& what);
// Does the same for every selector of `values`.
ESPALIER_API void require_filters(const Graph& graph, const PerSelector& values, const std::string& what);

// Returns the norm of each filter or unit of an axis, in the order of its positions: as many numbers as the axis has
// positions, computed on the CPU in float64. p = 1 gives l1 norms, every other p gives l2 norms. A norm goes over all
// weights that make the axis together (shared widths, groups, heads); biases and batch norms do not count. Throws Error
// if no weight makes the axis, as of an index view.
ESPALIER_API std::vector<double> filter_norms(const Graph& graph, const Weights& weights, Axis axis, int p = 2);

}  // namespace espalier
