#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <espalier/edit.h>
#include <espalier/pruning.h>
#include <espalier/score.h>
#include <espalier/selector.h>
#include <espalier/weights.h>

#include "block_ranking.h"
#include "prune_goal.h"

namespace espalier {

// How many whole residual blocks go until the goal is met, and which.
class BlockRemoval {
 public:
  // protect: the share of the blocks that stays in any case. What it is made of must live as long as this.
  BlockRemoval(const Selector& on, const Score& score, const PruneGoal& goal, double protect)
      : ranking_(on, score), score_(score), goal_(goal), protect_(protect) {}

  // Returns the number of blocks that may go.
  int64_t count(const Graph& graph) const { return std::ssize(ranking_.blocks(graph)); }
  // Throws Error where the goal cannot be met.
  void check(const Graph& graph) const;
  // Returns the edits of the smallest blocks that have to go for this share of the removal. begun: what the network
  // cost at the stage's beginning; first: how many blocks there were then.
  Edits smallest(const ScoreInput& in, const NetworkCost& begun, int64_t first, double share) const;
  // Returns what would go at once of these values, as lines.
  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const;

 private:
  NetworkCost cost_without(Graph graph, const std::vector<std::string>& names) const;
  int64_t most(int64_t of) const;
  // The first of `order` that have to go for this share of the removal.
  std::vector<std::string> enough(const Graph& graph, const std::vector<std::string>& order, const NetworkCost& begun,
                                  int64_t first, double share) const;

  BlockRanking ranking_;
  const Score& score_;
  const PruneGoal& goal_;
  double protect_;
};

}  // namespace espalier
