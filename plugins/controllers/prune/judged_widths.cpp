#include "judged_widths.h"

#include <algorithm>

#include <espalier/groups.h>
#include <espalier/pruning.h>

namespace espalier {

std::vector<Axis> JudgedWidths::of(const Graph& graph) const {
  std::vector<Axis> axes = prunable_axes(graph, on_);
  std::erase_if(axes, [&](Axis a) { return !score_.why_not(graph, a).empty(); });
  const std::vector<Axis> by_themselves = views_of(graph, axes);
  axes.insert(axes.end(), by_themselves.begin(), by_themselves.end());
  std::ranges::sort(axes);
  return axes;
}

std::vector<Axis> JudgedWidths::views_of(const Graph& graph, const std::vector<Axis>& others) const {
  if (!with_views_ || !score_.judges_views()) return {};
  std::vector<Axis> axes = view_axes(graph, on_);
  std::erase_if(axes, [&](Axis a) { return !score_.why_not(graph, a).empty(); });
  for (const ViewInfo& v : views(graph)) {
    if (std::ranges::find(others, v.source) != others.end()) std::erase(axes, v.axis);
  }
  return axes;
}

std::vector<std::string> JudgedWidths::left_alone(const Graph& graph) const {
  std::vector<std::string> lines = unprunable_axes(graph);
  const std::vector<Axis> all = of(graph);
  std::erase_if(lines, [&](const std::string& line) {
    return std::ranges::any_of(all, [&](Axis a) { return line.starts_with("'" + graph[a].name + "' ("); });
  });
  const std::vector<Axis> named = prunable_axes(graph, on_);
  for (const Axis a : prunable_axes(graph, {})) {
    std::string why = score_.why_not(graph, a);
    if (std::ranges::find(named, a) == named.end()) why = "`on` does not name it";
    if (!why.empty()) lines.push_back("'" + graph[a].name + "' (" + std::to_string(graph[a].size) + "): " + why);
  }
  return lines;
}

std::string JudgedWidths::why_nothing(const Graph& graph) const {
  for (const Axis a : prunable_axes(graph, on_))
    return ": of '" + graph[a].name + "' the score says: " + score_.why_not(graph, a);
  const std::vector<std::string> lines = unprunable_axes(graph);
  for (const ParamId p : on_.match(graph)) {
    for (const std::string& line : lines) {
      for (size_t a = 0; a < graph.axes().size(); ++a) {
        const std::vector<bool> made = makes(graph, p, {static_cast<int32_t>(a)});
        const bool is_it = line.starts_with("'" + graph.axes()[a].name + "' (");
        if (is_it && std::ranges::find(made, true) != made.end()) return ": " + line;
      }
    }
  }
  return "";
}

}  // namespace espalier
