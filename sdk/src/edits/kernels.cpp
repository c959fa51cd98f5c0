// Kernels of single filters.
#include <algorithm>

#include "edits/draft.h"
#include "espalier/operation.h"
#include "operations/kernel_sizes.h"

namespace espalier {

Rewrite plan_change(const Graph& graph, const CropKernels& e) {
  Draft draft(graph);
  const int32_t id = draft.node(e.node);
  const Node& node = graph.nodes()[static_cast<size_t>(id)];
  const std::string what = "cannot crop the kernels of '" + e.node + "': ";
  const Indices have = node.op->kernel_sizes(graph, node);
  if (have.empty()) throw EditError(what + "an operation '" + node.op->type() + "' has no kernels");
  if (e.sizes.size() != have.size()) {
    throw EditError(what + std::to_string(e.sizes.size()) + " sizes for " + std::to_string(have.size()) + " filters");
  }
  for (size_t f = 0; f < have.size(); ++f) {
    if (e.sizes[f] < 0 || e.sizes[f] > have[f]) {
      throw EditError(what + "filter " + std::to_string(f) + " has a kernel of " + std::to_string(have[f]) +
                      " and cannot get one of " + std::to_string(e.sizes[f]));
    }
  }
  if (std::ranges::max(e.sizes) == 0) throw EditError(what + "nothing would be left, and the network would be cut");
  const ParamId weight = node.parameters.front();
  const int64_t side = graph.size(graph[weight].shape[2]);
  const KernelCorner first = kernel_shrinkage("half_ring", e.corner).first;
  if (first != node.op->kernel_corner() && std::ranges::any_of(have, [&](int64_t s) { return s > 0 && s < side; })) {
    throw EditError(what + "they were cropped from the other side before: give the corner '" +
                    (e.corner == "top_left" ? "bottom_right" : "top_left") + "'");
  }
  const auto op = node.op->with_kernel_sizes(e.sizes, first);
  if (!op) throw EditError(what + "this form of '" + node.op->type() + "' has kernels of one size only");

  Rewrite r{.graph = graph, .origin = {}, .axis_origin = {}};
  for (size_t i = 0; i < graph.parameters().size(); ++i) r.origin.push_back({static_cast<int32_t>(i)});
  for (size_t i = 0; i < graph.axes().size(); ++i) r.axis_origin.push_back({static_cast<int32_t>(i)});
  r.masks[weight] = kernel_mask(e.sizes, side, at::TensorOptions().dtype(at::kDouble), first);
  r.graph.replace_operation(id, op);
  // The whole gets smaller where all of its filters did, as far as it stays centred.
  const int64_t now = op->options().at("kernel").as_int();
  if (now != side) {
    Indices window;
    for (int64_t i = 0; i < now; ++i) window.push_back((side - now) / 2 + i);
    for (const size_t d : {size_t{2}, size_t{3}}) {
      r.windows[weight][d] = window;
      r.graph.mutable_parameters()[static_cast<size_t>(weight.id)].shape[d] = Dim::of(now);
    }
  }
  return r;
}

}  // namespace espalier
