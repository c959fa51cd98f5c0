#include "espalier/groups.h"

#include <algorithm>

#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace espalier {

namespace {

// The axis that a dimension consists of, whole; anything else (heads x head dimension, several segments) has no
// filters.
Axis whole_axis(const Dim& dim) {
  if (dim.segments.size() != 1 || dim.segments[0].factors.size() != 1) return {};
  return dim.segments[0].factors[0].axis;
}

}  // namespace

std::vector<GroupFamily> output_groups(const Graph& graph, const Weights& weights, const Selector& on) {
  std::vector<GroupFamily> families;
  for (const ParamId id : on.match(graph)) {
    const Parameter& p = graph[id];
    if (p.kind != "weight" || p.shape.empty() || p.input[0]) continue;
    const Axis axis = whole_axis(p.shape[0]);
    if (axis.id < 0 || graph[axis].fixed) continue;
    const Slot& slot = weights.slot(id);
    families.push_back({id, axis, slot.offset, slot.sizes[0], slot.numel / slot.sizes[0]});
  }
  return families;
}

std::vector<double> filter_norms(const Graph& graph, const Weights& weights, Axis axis, int p) {
  const c10::NoGradGuard no_grad;
  at::Tensor sums = at::zeros({graph[axis].size}, at::kDouble);
  for (const ParamId id : graph.producers(axis)) {
    if (whole_axis(graph[id].shape[0]) != axis) continue;
    const at::Tensor w = weights[id].detach().to(at::kCPU, at::kDouble);
    sums += (p == 1 ? w.abs() : w.pow(2)).reshape({w.size(0), -1}).sum(1);
  }
  const at::Tensor norms = p == 1 ? sums : sums.sqrt();
  const auto* first = norms.data_ptr<double>();
  return {first, first + norms.numel()};
}

}  // namespace espalier
