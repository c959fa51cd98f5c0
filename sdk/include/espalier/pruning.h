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
    "What is removed from layers with groups or heads; within: the same positions of each group or head; "
    "whole: whole groups or heads.");
}
// Returns the unit that an option `of_groups` names.
inline FilterUnit filter_unit(const std::string& of_groups) {
  return of_groups == "whole" ? FilterUnit::whole_groups : FilterUnit::within_groups;
}

// Throws Error if whole groups are to go (`unit`) and no layer of `on` has groups or heads.
ESPALIER_API void require_groups(const Graph& graph, const Selector& on, FilterUnit unit);

// Throws Error if a selector of `values` names no width of `all`, so that it would be without effect. `what` begins the
// message: "`ratio`".
ESPALIER_API void require_among(const Graph& graph, const PerSelector& values, FilterUnit unit,
                                const std::vector<Axis>& all, const std::string& what);

// The norms of a width's filters or units, and how many of these would go.
struct WidthNorms {
  std::string name;           // of the width
  std::vector<double> norms;  // one for each position
  int64_t gone = 0;           // positions that would go
};

// Returns a table of them as lines of text, for Foresight::finds, with all widths together in its last line. `gone` is
// the head of the last column.
ESPALIER_API std::vector<std::string> table_of(const std::vector<WidthNorms>& widths, const std::string& gone);

// The score of each position of a width: filters, units, heads; the smaller, the sooner it goes.
struct AxisScores {
  Axis axis;                   // the width
  std::vector<double> scores;  // [size of the axis]
};

// Returns the positions with the smallest scores over all widths together, `share` of all positions (0 to 1; rounded
// down), as far as `min_filters` positions (>= 1) of each width stay. Of equal scores the earlier width and position go
// first. Returns the widths that lose positions, in the order given, each with the positions that are to go, ascending:
// what network slimming (Liu et al. 2017) and SiDT (paper 003, section 4.3) remove. Throws Error where the number of
// scores is not the axis's size.
ESPALIER_API std::vector<std::pair<Axis, Indices>> smallest_overall(const Graph& graph,
                                                                    const std::vector<AxisScores>& scores, double share,
                                                                    int64_t least = 1);

// Returns the edits that remove positions of widths.
ESPALIER_API Edits removal_of(const Graph& graph, const std::vector<std::pair<Axis, Indices>>& gone);

// What controllers that prune by norm have in common: of each width a share of the filters, those of the smallest
// norms. No selector: the widths that a single convolution with kernels larger than 1 makes and that no sum carries, of
// a residual network those within its blocks: a channel of the stream could go only from all blocks at once.
class ESPALIER_API FilterShare {
 public:
  // `ratio` is the share of the filters of each width that goes, 0 to 1. `min_filters` of each width stay in any case.
  FilterShare(PerSelector ratio, Selector on, int64_t min_filters, FilterUnit unit)
      : ratio_(std::move(ratio)), on_(std::move(on)), min_filters_(min_filters), unit_(unit) {}

  // Throws Error where a selector means nothing or no filter would go.
  void require(const Graph& graph) const;
  // Returns the widths with the positions that are to go, ascending. norm: 1 or 2, which norm of the filters' weights.
  std::vector<std::pair<Axis, Indices>> smallest(const Graph& graph, const Weights& weights, int norm) const;
  // Returns a table of the norms among which those that go are chosen, for Foresight::finds. norm: 1 or 2.
  std::vector<std::string> finds(const Graph& graph, const Weights& weights, int norm) const;
  // Returns edits that remove as many as will go, whichever they are: for Controller::expected_edits.
  Edits expected(const Graph& graph) const;
  // Returns the edits that remove what smallest() finds.
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
