#include "espalier/per_selector.h"

#include <algorithm>

namespace espalier {

std::optional<double> value_for(const PerSelector& values, const Graph& graph, ParamId parameter) {
  if (values.by_selector.empty()) return values.everywhere;
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<ParamId> named = selector.match(graph);
    if (std::ranges::find(named, parameter) != named.end()) return value;
  }
  return {};
}

std::optional<double> value_for(const PerSelector& values, const Graph& graph, Axis axis) {
  if (values.by_selector.empty()) return values.everywhere;
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<Axis> named = graph.axes(selector);
    if (std::ranges::find(named, axis) != named.end()) return value;
  }
  return {};
}

}  // namespace espalier
