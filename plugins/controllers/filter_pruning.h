#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <espalier/blocks.h>
#include <espalier/declare.h>
#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/foresight.h>
#include <espalier/graph.h>
#include <espalier/groups.h>
#include <espalier/operation.h>
#include <espalier/per_selector.h>
#include <espalier/weights.h>

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

// Throws Error where whole groups are to go and no layer of these has groups or heads.
inline void require_groups(const Graph& graph, const Selector& on, FilterUnit unit) {
  if (unit == FilterUnit::whole_groups && filter_axes(graph, on, unit) == filter_axes(graph, on)) {
    throw Error("`of_groups: whole` is for layers with groups or heads, and " +
                (on.empty() ? "the network has none" : "none of '" + on.str() + "' has any") + "; leave it out");
  }
}

// Throws Error where a selector of `values` names no width of these: it would be without effect.
inline void require_among(const Graph& graph, const PerSelector& values, FilterUnit unit, const std::vector<Axis>& all,
                          const std::string& what) {
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<Axis> named = filter_axes(graph, selector, unit);
    if (std::ranges::find_first_of(named, all) == named.end()) {
      throw Error(what + " names '" + selector.str() +
                  "', and no width of it is to be pruned; name its layers by `on`");
    }
  }
}

// The norms of a width's filters or units, and how many of these would go.
struct WidthNorms {
  std::string name;
  std::vector<double> norms;
  int64_t gone = 0;
};

// A table of them, with all together at its end. gone: the head of the last column.
inline std::vector<std::string> table_of(const std::vector<WidthNorms>& widths, const std::string& gone) {
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

// What controllers that prune by norm have in common: of each width a share of the filters, those of the smallest
// norms. No selector: the widths that a single convolution with kernels larger than 1 makes and that no sum carries, of
// a residual network those within its blocks: a channel of the stream could go only from all blocks at once.
class FilterShare {
 public:
  FilterShare(PerSelector ratio, Selector on, int64_t least, FilterUnit unit)
      : ratio_(std::move(ratio)), on_(std::move(on)), least_(least), unit_(unit) {}

  // Throws Error where a selector means nothing or no filter would go.
  void require(const Graph& graph) const {
    require_filters(graph, on_, "`on`");
    require_filters(graph, ratio_, "`ratio`");
    const std::vector<Axis> all = axes(graph);
    if (all.empty()) {
      throw Error(on_.empty()
                      ? "there is nothing to prune: no convolution with kernels larger than 1 has a width for itself, "
                        "outside of sums and stems; name layers by `on`"
                      : "there is nothing to prune: no layer of '" + on_.str() +
                            "' has filters or units that may go (the number of classes stays)");
    }
    require_groups(graph, on_, unit_);
    require_among(graph, ratio_, unit_, all, "`ratio`");
    if (std::ranges::all_of(all, [&](Axis a) { return count(graph, a) == 0; }))
      throw Error("there is nothing to prune: `ratio` and `least` leave every filter in its place");
  }

  // Widths with the positions that are to go, ascending. norm: 1 or 2.
  std::vector<std::pair<Axis, Indices>> smallest(const Graph& graph, const Weights& weights, int norm) const {
    std::vector<std::pair<Axis, Indices>> result;
    for (const Axis axis : axes(graph)) {
      const int64_t n = count(graph, axis);
      if (n == 0) continue;
      const std::vector<double> norms = filter_norms(graph, weights, axis, norm);
      Indices order(norms.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {}, [&](int64_t k) { return norms[static_cast<size_t>(k)]; });
      order.resize(static_cast<size_t>(n));
      std::ranges::sort(order);
      result.emplace_back(axis, std::move(order));
    }
    return result;
  }

  // The norms of the filters among which those that go are chosen. norm: 1 or 2.
  std::vector<std::string> finds(const Graph& graph, const Weights& weights, int norm) const {
    std::vector<WidthNorms> widths;
    for (const Axis axis : axes(graph))
      widths.push_back({graph[axis].name, filter_norms(graph, weights, axis, norm), count(graph, axis)});
    return table_of(widths, "to go");
  }

  // As many as will go, whichever they are.
  Edits expected(const Graph& graph) const {
    Edits edits;
    for (const Axis axis : axes(graph)) {
      Indices keep(static_cast<size_t>(graph[axis].size - count(graph, axis)));
      std::iota(keep.begin(), keep.end(), 0);
      if (static_cast<int64_t>(keep.size()) < graph[axis].size) edits.push_back(shrink(graph, axis, std::move(keep)));
    }
    return edits;
  }

  // That they go.
  Edits removal(const Graph& graph, const Weights& weights, int norm) const {
    Edits edits;
    for (const auto& [axis, gone] : smallest(graph, weights, norm))
      edits.push_back(shrink(graph, axis, complement(gone, graph[axis].size)));
    return edits;
  }

 private:
  std::vector<Axis> axes(const Graph& graph) const {
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

  static bool is_summed(const Graph& graph, Axis axis) {
    return std::ranges::any_of(graph.nodes(), [&](const Node& n) {
      return n.op->type() == "add" &&
             std::ranges::any_of(graph[n.outputs[0]].shape, [&](const Dim& d) { return d.reads(axis); });
    });
  }

  int64_t count(const Graph& graph, Axis axis) const {
    const int64_t n = graph[axis].size;
    // 0.29 of 100 is 29, whatever the last digit of the product.
    const auto share =
        static_cast<int64_t>(std::floor(value_for(ratio_, graph, axis).value_or(0) * static_cast<double>(n) + 1e-9));
    return std::max<int64_t>(0, std::min(share, n - least_));
  }

  PerSelector ratio_;
  Selector on_;
  int64_t least_;
  FilterUnit unit_;
};

}  // namespace espalier
