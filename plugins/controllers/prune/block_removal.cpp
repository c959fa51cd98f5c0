#include "block_removal.h"

#include <algorithm>
#include <cmath>

#include <espalier/error.h>
#include <espalier/rewrite.h>

namespace espalier {

namespace {

std::vector<std::string> names_of(const std::vector<BlockRanking::Block>& blocks) {
  std::vector<std::string> names;
  for (const BlockRanking::Block& b : blocks) names.push_back(b.name);
  return names;
}

}  // namespace

NetworkCost BlockRemoval::cost_without(Graph graph, const std::vector<std::string>& names) const {
  apply(graph, {}, BlockRanking::drops(names));
  return goal_.cost(graph);
}

int64_t BlockRemoval::most(int64_t of) const {
  return std::max<int64_t>(0, of - std::llround(std::ceil(protect_ * static_cast<double>(of) - 1e-9)));
}

std::vector<std::string> BlockRemoval::enough(const Graph& graph, const std::vector<std::string>& order,
                                              const NetworkCost& begun, int64_t first, double share) const {
  const int64_t here = std::ssize(order), gone = first - here;
  const int64_t may_go = std::max<int64_t>(0, most(first) - gone);
  const double whole = goal_.cost_of(begun);
  const double wanted = whole + share * (goal_.wanted(begun) - whole);
  const int64_t count = goal_.positions_to_go(first, share) - gone;
  std::vector<std::string> names;
  while (std::ssize(names) < may_go) {
    const bool done =
        goal_.what() == "share" ? std::ssize(names) >= count : goal_.cost_of(cost_without(graph, names)) <= wanted;
    if (done) break;
    names.push_back(order[names.size()]);
  }
  return names;
}

void BlockRemoval::check(const Graph& graph) const {
  std::vector<std::string> others;
  std::vector<std::string> names = names_of(ranking_.blocks(graph, &others));
  if (names.empty())
    throw Error("there is nothing to prune: no whole block can go" + (others.empty() ? "" : ": " + others.front()));
  const NetworkCost begun = goal_.cost(graph);
  const int64_t all = std::ssize(names);
  if (goal_.what() == "share") {
    const int64_t count = goal_.positions_to_go(all, 1);
    if (count == 0 || count > most(all)) {
      throw Error("'target': a share of " + number_text(goal_.value()) + " of " + std::to_string(all) + " blocks is " +
                  std::to_string(count) + "; from 1 to " + std::to_string(most(all)) + " may go");
    }
    return;
  }
  const double wanted = goal_.wanted(begun);
  goal_.refuse_nothing(begun);
  names.resize(static_cast<size_t>(most(all)));
  const double least = goal_.cost_of(cost_without(graph, names));
  if (least > wanted) {
    throw Error("'target' cannot be met: without " + std::to_string(names.size()) + " of " + std::to_string(all) +
                " blocks there are " + cost_text(least, goal_.what()) + ", and the target is " +
                cost_text(wanted, goal_.what()) + "; 'protect' decides how many blocks stay");
  }
}

Edits BlockRemoval::smallest(const ScoreInput& in, const NetworkCost& begun, int64_t first, double share) const {
  return BlockRanking::drops(enough(in.graph, ranking_.ranked(in), begun, first, share));
}

std::vector<std::string> BlockRemoval::finds(const Graph& graph, const Weights& weights) const {
  std::vector<std::string> lines, others;
  const int64_t count = std::ssize(ranking_.blocks(graph, &others));
  if (score_.batches() == 0) {
    Weights values(graph, weights.dtype(), at::kCPU);
    values.copy_from(weights);
    const NetworkCost begun = goal_.cost(graph);
    const std::vector<std::string> gone = enough(graph, ranking_.ranked({graph, values}), begun, count, 1);
    for (const std::string& name : gone) lines.push_back("to go: '" + name + "'");
    lines.push_back(result_text(begun, cost_without(graph, gone)));
  }
  for (const std::string& line : others) lines.push_back("cannot go: " + line);
  return lines;
}

}  // namespace espalier
