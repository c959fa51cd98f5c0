#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/declare.h"
#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/groups.h"
#include "espalier/latency.h"
#include "espalier/score.h"
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
// the head of the last column, `what` that of the first.
ESPALIER_API std::vector<std::string> table_of(const std::vector<WidthNorms>& widths, const std::string& gone,
                                               const std::string& what = "norms of");

// How scores of different widths are compared.
struct RankOptions {
  // global: all positions in one order; layer: every width loses the same share; block: every residual block loses the
  // same share of its positions (what lies in no block counts as one)
  std::string scope = "global";
  // What the scores of each width are divided by: none, mean or max; gaussian: their mean is taken away, and they are
  // divided by their standard deviation. Without effect within a layer.
  std::string normalize = "none";
  int64_t round_to = 1;  // what is left of a width is a multiple of this, or the whole width
};

// The order in which the positions of widths go, the smallest score first, as far as they may go. It is a list of
// steps, each of which takes one position away from one width, or as many as `round_to` asks for. Everything that ranks
// and prunes chooses a number of steps. Of equal scores the earlier width and position go first.
class ESPALIER_API RemovalOrder {
 public:
  // keep: the positions of each width that stay in any case, at least 1. Throws Error if a width has not as many finite
  // scores as positions.
  RemovalOrder(const Graph& graph, std::vector<AxisScores> scores, const std::vector<int64_t>& keep,
               const RankOptions& options);

  // Returns how many steps there are.
  int64_t steps() const { return static_cast<int64_t>(steps_.size()); }
  // Returns how many positions all widths have together.
  int64_t positions() const { return positions_; }
  // Returns the widths, in the order in which they were given.
  const std::vector<AxisScores>& scores() const { return scores_; }
  // Returns what is left of each width after the first `steps` steps, in the order of scores().
  std::vector<int64_t> left_after(int64_t steps) const;
  // Returns how many steps take away at most so many positions.
  int64_t steps_for(int64_t positions) const;
  // Returns the widths of which less is left than there was, in the order of scores(), each with the positions that are
  // to go, ascending: of the smallest scores. left: what is left of each width.
  std::vector<std::pair<Axis, Indices>> gone(const std::vector<int64_t>& left) const;
  // Returns the size that a width of scores() gets by one further step from `left`, or `left` if there is none.
  int64_t next_below(size_t width, int64_t left) const;
  // Returns the size that it had before the step that led to `left`, or `left` if there was none.
  int64_t next_above(size_t width, int64_t left) const;
  // Returns the width of the first step that has not been taken yet, leaving out closed widths; the number of widths if
  // there is none.
  size_t width_of_next(const std::vector<int64_t>& left, const std::vector<bool>& closed) const;

 private:
  struct Step {
    size_t width;
    int64_t left;
  };
  std::vector<AxisScores> scores_;
  std::vector<Indices> order_;               // of each width, its positions, the smallest score first
  std::vector<std::vector<int64_t>> sizes_;  // of each width, the sizes that it may get, falling
  std::vector<Step> steps_;
  int64_t positions_ = 0;
};

// What a network costs.
struct NetworkCost {
  int64_t params = 0;  // trainable numbers
  int64_t macs = 0;    // multiply-accumulates of one sample
  double ms = 0;       // milliseconds by a table of latencies; 0 if none is given
};

// Counts what a network would cost if widths were smaller, without making it: the graph's own counts, with other sizes.
// Where an operation holds something by position (kernels of several sizes) or a view loses what it reads, the edit is
// planned for each count, which takes longer and gives the same numbers as carrying it out.
// With a table of latencies the time is counted, too; the table must live as long as the counter.
class ESPALIER_API CostCounter {
 public:
  // Throws Error if the table does not know a node of the network.
  explicit CostCounter(const Graph& graph, const LatencyTable* latencies = nullptr);
  // Returns what the network costs as it is.
  NetworkCost now() const { return now_; }
  // Returns what it would cost with `left` positions of each width of `order`. In the planned form the positions are
  // those that the order takes.
  NetworkCost with(const RemovalOrder& order, const std::vector<int64_t>& left) const;

 private:
  const Graph& graph_;
  std::optional<LatencyCounter> time_;
  mutable Graph sized_;
  NetworkCost now_;
  bool planned_ = false;
};

// How much is to stay of a network.
struct PruneTarget {
  // macs, params, latency (a share of the time), latency_ms (the time), or share: of the positions of the widths that
  // are ranked, what goes
  std::string what = "macs";
  double value = 0.5;  // macs and params: up to 1 a share of `of`, above 1 the number; share: from 0 to below 1
};

// Returns the number of multiply-accumulates, parameters or milliseconds that a target means for a network that costs
// this; of a share, 0.
ESPALIER_API double wanted_cost(const PruneTarget& target, const NetworkCost& of);

// What meets a target.
struct Selection {
  std::vector<int64_t> left;  // of each width of the order
  NetworkCost cost;           // of what is left of the network
};

// Returns what a cost is in terms of a target's `what`: its multiply-accumulates, parameters or milliseconds.
ESPALIER_API double cost_of(const NetworkCost& cost, const std::string& what);
// Returns such a cost in words: "1,234 multiply-accumulates", "0.512 ms".
ESPALIER_API std::string cost_text(double cost, const std::string& what);

// Returns how much of each width is to stay so that the network costs at most `wanted` (of target.what): bisection over
// the steps of the order, then single steps of other widths, until the cost is within half a percent of `wanted` or no
// step comes nearer. Throws Error with the smallest possible cost if all steps together do not reach it.
ESPALIER_API Selection meet_cost(const RemovalOrder& order, const CostCounter& counter, const std::string& what,
                                 double wanted);

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
