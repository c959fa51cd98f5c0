#include "threshold.h"

#include <algorithm>

#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/rewrite.h>

namespace espalier {

double score_at(const RemovalOrder& order, int64_t n) {
  std::vector<double> all;
  for (const AxisScores& s : order.scores()) all.insert(all.end(), s.scores.begin(), s.scores.end());
  const auto at = all.begin() + n;
  std::nth_element(all.begin(), at, all.end());
  return *at;
}

int64_t count_above(const std::vector<double>& scores, double threshold) {
  return std::ranges::count_if(scores, [&](double s) { return s > threshold; });
}

std::vector<int64_t> left_above(const RemovalOrder& order, double threshold) {
  std::vector<int64_t> left = order.left_after(0);
  for (size_t w = 0; w < left.size(); ++w) {
    const int64_t above = count_above(order.scores()[w].scores, threshold);
    for (int64_t next = order.next_below(w, left[w]); next < left[w] && next >= above;
         next = order.next_below(w, left[w]))
      left[w] = next;
  }
  return left;
}

std::vector<std::string> foldable_gates(const Graph& graph) {
  std::vector<std::string> names;
  for (const GateInfo& g : graph.gates()) {
    const std::string& name = graph.nodes()[static_cast<size_t>(g.node)].name;
    try {
      plan(graph, Edit{FoldGate{name}});
      names.push_back(name);
    } catch (const EditError&) {
      // it stays
    }
  }
  return names;
}

}  // namespace espalier
