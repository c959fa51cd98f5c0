#include "block_ranking.h"

#include <algorithm>
#include <utility>

#include <espalier/blocks.h>
#include <espalier/error.h>
#include <espalier/rewrite.h>

namespace espalier {

std::vector<BlockRanking::Block> BlockRanking::blocks(const Graph& graph, std::vector<std::string>* others) const {
  std::vector<Block> found;
  const std::vector<ParamId> named = on_.empty() ? std::vector<ParamId>() : on_.match(graph);
  for (const std::string& name : residual_blocks(graph)) {
    const auto within = [&](ParamId p) { return block_of(graph, p, {name}) == name; };
    Block block{name, {}};
    std::string why;
    try {
      plan(graph, Edit{DropBlock{name}});
    } catch (const EditError& e) {
      why = e.what();
    }
    if (!on_.empty() && std::ranges::none_of(named, within)) why = "`on` does not name it";
    for (const Axis a : prunable_axes(graph, {})) {
      const std::vector<ParamId> makers = graph.producers(a);
      if (std::ranges::all_of(makers, within) && score_.why_not(graph, a).empty()) block.axes.push_back(a);
    }
    if (why.empty() && block.axes.empty()) why = "it has no width of its own that the score can judge";
    if (why.empty()) {
      found.push_back(std::move(block));
    } else if (others) {
      others->push_back("'" + name + "': " + why);
    }
  }
  return found;
}

std::vector<std::string> BlockRanking::ranked(const ScoreInput& in) const {
  const std::vector<Block> all = blocks(in.graph);
  std::vector<Axis> axes;
  for (const Block& b : all) axes.insert(axes.end(), b.axes.begin(), b.axes.end());
  const std::vector<AxisScores> scores = score_.scores(in, axes);
  std::vector<std::pair<double, std::string>> order;
  size_t next = 0;
  for (const Block& b : all) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < b.axes.size(); ++i) {
      for (const double s : scores[next].scores) sum += s, ++count;
      ++next;
    }
    order.emplace_back(sum / count, b.name);
  }
  std::ranges::stable_sort(order, {}, &std::pair<double, std::string>::first);
  std::vector<std::string> names;
  for (const auto& [score, name] : order) names.push_back(name);
  return names;
}

Edits BlockRanking::drops(const std::vector<std::string>& names) {
  Edits edits;
  for (const std::string& n : names) edits.push_back({DropBlock{n}});
  return edits;
}

}  // namespace espalier
