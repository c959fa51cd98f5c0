#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <espalier/graph.h>
#include <espalier/latency.h>
#include <espalier/pruning.h>

#include "prune_options.h"

namespace espalier {

// What the option `target` asks for, and how a network is counted for it.
class PruneGoal {
 public:
  // Throws Error where the option names nothing or more than one thing to reach, or a latency without a table.
  explicit PruneGoal(Target target);

  // The one thing that is to be reached, and its value as the option gives it.
  const std::string& what() const { return target_.what; }
  double value() const { return target_.value; }

  bool of_latency() const { return target_.what.starts_with("latency"); }
  // Whether the scores themselves say what goes.
  bool of_scores() const { return target_.what == "quantile" || target_.what == "threshold"; }
  // Whether positions count rather than what they cost.
  bool of_positions() const { return target_.what == "share" || of_scores(); }

  // The table that latencies are counted by. Is read when it is needed first.
  const LatencyTable& latencies() const;
  CostCounter counter(const Graph& graph) const;
  NetworkCost cost(const Graph& graph) const;

  double cost_of(const NetworkCost& cost) const { return espalier::cost_of(cost, target_.what); }
  // The cost that is to be reached of a network that had this cost at the stage's beginning.
  double wanted(const NetworkCost& begun) const { return wanted_cost(target_, begun); }
  // Throws Error where the network has no more than that.
  void refuse_nothing(const NetworkCost& begun) const;
  // How many of these positions, or blocks, are to go once this share of the removal is done.
  int64_t positions_to_go(int64_t of, double share) const;

 private:
  Target o_;
  PruneTarget target_;
  mutable std::optional<LatencyTable> table_{};
};

// A number as recipes have it.
std::string number_text(double v);

// "1,108,910 of 2,236,300 multiply-accumulates (49.59 %) and 44,426 of 62,006 parameters (71.65 %) stay"
std::string result_text(const NetworkCost& before, const NetworkCost& after);

}  // namespace espalier
