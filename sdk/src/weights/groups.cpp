#include "espalier/groups.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/rewrite.h"

namespace espalier {

namespace {

// The factor of a segment whose positions are its filters; -1: it has none that edits may change.
int filter_factor(const Graph& graph, const Segment& segment, FilterUnit unit) {
  int found = -1;
  for (size_t i = 0; i < segment.factors.size(); ++i) {
    const Axis axis = segment.factors[i].axis;
    if (axis.id < 0 || graph[axis].fixed) continue;
    found = static_cast<int>(i);
    if (unit == FilterUnit::whole_groups) break;
  }
  return found;
}

bool has_filters(const Parameter& p) {
  if (p.kind != "weight") return false;
  for (size_t d = 0; d < p.shape.size(); ++d) {
    if (!p.input[d] && p.shape[d].has_axis()) return true;
  }
  return false;
}

}  // namespace

std::vector<GroupFamily> output_groups(const Graph& graph, const Weights& weights, const Selector& on) {
  std::vector<GroupFamily> families;
  for (const ParamId id : on.match(graph)) {
    const Parameter& p = graph[id];
    if (p.kind != "weight" || p.shape.empty() || p.input[0]) continue;
    const Slot& slot = weights.slot(id);
    const int64_t row = slot.numel / slot.sizes[0];
    int64_t start = slot.offset;
    for (const Segment& s : p.shape[0].segments) {
      if (const int f = filter_factor(graph, s, FilterUnit::within_groups); f >= 0) {
        const auto at = s.factors.begin() + f;
        const int64_t count = graph[at->axis].size;
        const int64_t size = graph.size(Segment{{at + 1, s.factors.end()}}) * row;
        families.push_back({.parameter = id,
                            .axis = at->axis,
                            .offset = start,
                            .count = count,
                            .size = size,
                            .pieces = graph.size(Segment{{s.factors.begin(), at}}),
                            .stride = count * size});
      }
      start += graph.size(s) * row;
    }
  }
  return families;
}

std::vector<Axis> filter_axes(const Graph& graph, const Selector& on, FilterUnit unit) {
  std::vector<Axis> axes;
  for (const ParamId id : on.match(graph)) {
    const Parameter& p = graph[id];
    if (p.kind != "weight") continue;
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (p.input[d]) continue;
      for (const Segment& s : p.shape[d].segments) {
        const int f = filter_factor(graph, s, unit);
        if (f < 0) continue;
        const Axis axis = s.factors[static_cast<size_t>(f)].axis;
        if (std::ranges::find(axes, axis) == axes.end()) axes.push_back(axis);
      }
    }
  }
  return axes;
}

void require_filters(const Graph& graph, const Selector& on, const std::string& what) {
  on.require_matches(graph);
  for (const std::string& term : on.terms()) {
    if (term.starts_with('!')) continue;
    const std::vector<ParamId> named = Selector(term.c_str()).match(graph);
    if (std::ranges::any_of(named, [&](ParamId p) { return has_filters(graph[p]); })) continue;
    throw Error(what + " names '" + term + "', which are no filters or units ('" + graph[named.front()].name +
                "' is of the kind '" + graph[named.front()].kind +
                "'): filters are judged by the weights that make them; name the layer whose filters are meant");
  }
}

void require_filters(const Graph& graph, const PerSelector& values, const std::string& what) {
  for (const auto& [selector, value] : values.by_selector) require_filters(graph, selector, what);
}

std::vector<double> filter_norms(const Graph& graph, const Weights& weights, Axis axis, int p) {
  const c10::NoGradGuard no_grad;
  at::Tensor sums = at::zeros({graph[axis].size}, at::kDouble);
  const std::vector<ParamId> makers = graph.producers(axis);
  if (makers.empty())
    throw Error("the width '" + graph[axis].name + "' has no filters or units: no layer's weights make it");
  for (const ParamId id : makers) {
    const Parameter& parameter = graph[id];
    const at::Tensor w = weights[id].detach().to(at::kCPU, at::kDouble);
    const at::Tensor powers = p == 1 ? w.abs() : w.pow(2);
    for (size_t d = 0; d < parameter.shape.size(); ++d) {
      if (parameter.input[d] || !parameter.shape[d].reads(axis)) continue;
      const at::Tensor rows = powers.movedim(static_cast<int64_t>(d), 0).reshape({w.size(static_cast<int64_t>(d)), -1});
      const at::Tensor at = at::tensor(axis_positions(graph, parameter.shape[d], axis), at::kLong);
      const at::Tensor belongs = at.ge(0).nonzero().flatten();
      sums.index_add_(0, at.index_select(0, belongs), rows.sum(1).index_select(0, belongs));
    }
  }
  const at::Tensor norms = p == 1 ? sums : sums.sqrt();
  const auto* first = norms.data_ptr<double>();
  return {first, first + norms.numel()};
}

}  // namespace espalier
