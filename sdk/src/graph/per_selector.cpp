#include "espalier/per_selector.h"

#include <algorithm>

namespace espalier {

namespace {

// named(selector): what the selector names.
template <class T, class Named>
std::optional<double> first_value(const PerSelector& values, T what, const Named& named) {
  if (values.by_selector.empty()) return values.everywhere;
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<T> all = named(selector);
    if (std::ranges::find(all, what) != all.end()) return value;
  }
  return {};
}

}  // namespace

std::optional<double> value_for(const PerSelector& values, const Graph& graph, ParamId parameter) {
  return first_value(values, parameter, [&](const Selector& s) { return s.match(graph); });
}

std::optional<double> value_for(const PerSelector& values, const Graph& graph, Axis axis) {
  return first_value(values, axis, [&](const Selector& s) { return graph.axes(s); });
}

}  // namespace espalier
