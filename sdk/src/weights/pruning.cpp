#include "espalier/pruning.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>
#include <utility>

#include "espalier/blocks.h"
#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/per_selector.h"

namespace espalier {

namespace {

bool is_summed(const Graph& graph, Axis axis) {
  return std::ranges::any_of(graph.nodes(), [&](const Node& n) {
    return n.op->type() == "add" &&
           std::ranges::any_of(graph[n.outputs[0]].shape, [&](const Dim& d) { return d.reads(axis); });
  });
}

// The positions of the `count` smallest scores, ascending; of equal ones the first.
Indices positions_of_smallest(const std::vector<double>& scores, int64_t count) {
  Indices order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int64_t k) { return scores[static_cast<size_t>(k)]; });
  order.resize(static_cast<size_t>(count));
  std::ranges::sort(order);
  return order;
}

}  // namespace

std::vector<std::pair<Axis, Indices>> smallest_overall(const Graph& graph, const std::vector<AxisScores>& scores,
                                                       double share, int64_t least) {
  struct Position {
    double score;
    size_t width;
    int64_t position;
  };
  std::vector<Position> all;
  for (size_t w = 0; w < scores.size(); ++w) {
    const AxisInfo& axis = graph[scores[w].axis];
    if (static_cast<int64_t>(scores[w].scores.size()) != axis.size) {
      throw Error("'" + axis.name + "' has " + std::to_string(axis.size) + " positions and " +
                  std::to_string(scores[w].scores.size()) + " scores");
    }
    for (int64_t k = 0; k < axis.size; ++k) all.push_back({scores[w].scores[static_cast<size_t>(k)], w, k});
  }
  // 0.29 of 100 is 29, whatever the last digit of the product.
  auto wanted = static_cast<int64_t>(std::floor(share * static_cast<double>(all.size()) + 1e-9));
  std::ranges::stable_sort(all, {}, &Position::score);
  std::vector<Indices> gone(scores.size());
  for (const Position& p : all) {
    if (wanted == 0) break;
    Indices& of_width = gone[p.width];
    if (std::ssize(of_width) + least >= std::ssize(scores[p.width].scores)) continue;
    of_width.push_back(p.position);
    --wanted;
  }
  std::vector<std::pair<Axis, Indices>> result;
  for (size_t w = 0; w < scores.size(); ++w) {
    if (gone[w].empty()) continue;
    std::ranges::sort(gone[w]);
    result.emplace_back(scores[w].axis, std::move(gone[w]));
  }
  return result;
}

Edits removal_of(const Graph& graph, const std::vector<std::pair<Axis, Indices>>& gone) {
  Edits edits;
  for (const auto& [axis, positions] : gone)
    edits.push_back(shrink(graph, axis, complement(positions, graph[axis].size)));
  return edits;
}

void require_groups(const Graph& graph, const Selector& on, FilterUnit unit) {
  if (unit == FilterUnit::whole_groups && filter_axes(graph, on, unit) == filter_axes(graph, on)) {
    throw Error("`of_groups: whole` is for layers with groups or heads, and " +
                (on.empty() ? "the network has none" : "none of '" + on.str() + "' has any") + "; leave it out");
  }
}

void require_among(const Graph& graph, const PerSelector& values, FilterUnit unit, const std::vector<Axis>& all,
                   const std::string& what) {
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<Axis> named = filter_axes(graph, selector, unit);
    if (std::ranges::find_first_of(named, all) == named.end()) {
      throw Error(what + " names '" + selector.str() +
                  "', and no width of it is to be pruned; name its layers by `on`");
    }
  }
}

std::vector<std::string> table_of(const std::vector<WidthNorms>& widths, const std::string& gone) {
  constexpr size_t most_rows = 24;
  char line[200];
  std::snprintf(line, sizeof line, "%-28s %8s %10s %10s %10s  %s", "norms of", "filters", "smallest", "median",
                "largest", gone.c_str());
  std::vector<std::string> lines{line};
  const auto add = [&](const WidthNorms& w) {
    std::vector<double> sorted = w.norms;
    std::ranges::sort(sorted);
    std::snprintf(line, sizeof line, "%-28s %8zu %10.3g %10.3g %10.3g  %lld", w.name.c_str(), sorted.size(),
                  sorted.front(), sorted[sorted.size() / 2], sorted.back(), static_cast<long long>(w.gone));
    lines.emplace_back(line);
  };
  WidthNorms all{"all", {}, 0};
  for (const WidthNorms& w : widths) {
    if (w.norms.empty()) continue;
    if (widths.size() <= most_rows) add(w);
    all.norms.insert(all.norms.end(), w.norms.begin(), w.norms.end());
    all.gone += w.gone;
  }
  if (all.norms.empty()) return {};
  if (widths.size() > 1) add(all);
  return lines;
}

void FilterShare::require(const Graph& graph) const {
  require_filters(graph, on_, "`on`");
  require_filters(graph, ratio_, "`ratio`");
  const std::vector<Axis> all = axes(graph);
  if (all.empty()) {
    throw Error(on_.empty() ? "there is nothing to prune: no convolution with kernels larger than 1 has a width for "
                              "itself, outside of sums and stems; name layers by `on`"
                            : "there is nothing to prune: no layer of '" + on_.str() +
                                  "' has filters or units that may go (the number of classes stays)");
  }
  require_groups(graph, on_, unit_);
  require_among(graph, ratio_, unit_, all, "`ratio`");
  if (std::ranges::all_of(all, [&](Axis a) { return count(graph, a) == 0; }))
    throw Error("there is nothing to prune: `ratio` and `min_filters` leave every filter in its place");
}

std::vector<std::pair<Axis, Indices>> FilterShare::smallest(const Graph& graph, const Weights& weights,
                                                            int norm) const {
  std::vector<std::pair<Axis, Indices>> result;
  for (const Axis axis : axes(graph)) {
    const int64_t n = count(graph, axis);
    if (n > 0) result.emplace_back(axis, positions_of_smallest(filter_norms(graph, weights, axis, norm), n));
  }
  return result;
}

std::vector<std::string> FilterShare::finds(const Graph& graph, const Weights& weights, int norm) const {
  std::vector<WidthNorms> widths;
  for (const Axis axis : axes(graph))
    widths.push_back({graph[axis].name, filter_norms(graph, weights, axis, norm), count(graph, axis)});
  return table_of(widths, "to go");
}

Edits FilterShare::expected(const Graph& graph) const {
  Edits edits;
  for (const Axis axis : axes(graph)) {
    Indices keep(static_cast<size_t>(graph[axis].size - count(graph, axis)));
    std::iota(keep.begin(), keep.end(), 0);
    if (static_cast<int64_t>(keep.size()) < graph[axis].size) edits.push_back(shrink(graph, axis, std::move(keep)));
  }
  return edits;
}

Edits FilterShare::removal(const Graph& graph, const Weights& weights, int norm) const {
  return removal_of(graph, smallest(graph, weights, norm));
}

std::vector<Axis> FilterShare::axes(const Graph& graph) const {
  std::vector<Axis> result;
  const std::set<std::string> blocks = residual_blocks(graph);
  for (const Axis axis : filter_axes(graph, on_.empty() ? Selector("convolutions") : on_, unit_)) {
    const std::vector<ParamId> makers = graph.producers(axis);
    if (!on_.empty() || (makers.size() == 1 && is_spatial(graph, makers[0]) && !is_summed(graph, axis) &&
                         (blocks.empty() || !block_of(graph, makers[0], blocks).empty())))
      result.push_back(axis);
  }
  return result;
}

int64_t FilterShare::count(const Graph& graph, Axis axis) const {
  const int64_t n = graph[axis].size;
  const auto share =
      static_cast<int64_t>(std::floor(value_for(ratio_, graph, axis).value_or(0) * static_cast<double>(n) + 1e-9));
  return std::max<int64_t>(0, std::min(share, n - min_filters_));
}

}  // namespace espalier
