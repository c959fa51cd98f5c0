#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/groups.h"
#include "espalier/weights.h"

namespace espalier {

// Declares `of_groups`, which every controller that removes filters by their norms has.
template <class Options>
void declare_of_groups(Declare<Options>& p) {
  p("of_groups", &Options::of_groups, one_of({"within", "whole"}),
    "what goes of layers with groups or heads; within: the same positions of each; whole: whole groups or heads");
}
inline FilterUnit filter_unit(const std::string& of_groups) {
  return of_groups == "whole" ? FilterUnit::whole_groups : FilterUnit::within_groups;
}

// The score of each position of a width: filters, units, heads; the smaller, the sooner it goes.
struct AxisScores {
  Axis axis;
  std::vector<double> scores;  // [size of the axis]
};

// The positions with the smallest scores over all widths together, `share` of all positions (0 to 1; rounded down), as
// far as `min_filters` positions (>= 1) of each width stay. Of equal scores the earlier width and position go first. Returns
// the widths that lose positions, in the order given, each with the positions that are to go, ascending: what network
// slimming (Liu et al. 2017) and SiDT (paper 003, section 4.3) remove. Throws Error where the number of scores is not
// the axis's size.
ESPALIER_API std::vector<std::pair<Axis, Indices>> smallest_overall(const Graph& graph,
                                                                    const std::vector<AxisScores>& scores, double share,
                                                                    int64_t least = 1);

// The edits that remove positions of widths.
ESPALIER_API Edits removal_of(const Graph& graph, const std::vector<std::pair<Axis, Indices>>& gone);

// What controllers that prune by norm have in common: of each width a share of the filters, those of the smallest
// norms. No selector: the widths that a single convolution with kernels larger than 1 makes and that no sum carries, of
// a residual network those within its blocks: a channel of the stream could go only from all blocks at once.
class ESPALIER_API FilterShare {
 public:
  // ratio: share of the filters of each width that goes, 0 to 1; min_filters: how many of each width stay in any case.
  FilterShare(PerSelector ratio, Selector on, int64_t min_filters, FilterUnit unit)
      : ratio_(std::move(ratio)), on_(std::move(on)), min_filters_(min_filters), unit_(unit) {}

  // Throws Error where a selector means nothing or no filter would go.
  void require(const Graph& graph) const;
  // Widths with the positions that are to go, ascending. norm: 1 or 2, which norm of the filters' weights.
  std::vector<std::pair<Axis, Indices>> smallest(const Graph& graph, const Weights& weights, int norm) const;
  // The edits that remove as many as will go, whichever they are: for Controller::expected_edits.
  Edits expected(const Graph& graph) const;
  // The edits that remove what smallest() finds.
  Edits removal(const Graph& graph, const Weights& weights, int norm) const;

 private:
  std::vector<Axis> axes(const Graph& graph) const;
  int64_t count(const Graph& graph, Axis axis) const;

  PerSelector ratio_;
  Selector on_;
  int64_t min_filters_;
  FilterUnit unit_;
};

}  // namespace espalier
