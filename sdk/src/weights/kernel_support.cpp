#include "espalier/kernel_support.h"

#include <algorithm>

#include <ATen/ops/zeros.h>

namespace espalier {

namespace {

// The positions of a kernel of side `side` of which `has` is true, ascending.
template <class Has>
Indices positions(int64_t side, const Has& has) {
  Indices result;
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      if (has(y, x)) result.push_back(y * side + x);
    }
  }
  return result;
}

}  // namespace

int64_t kernel_offset(int64_t side, int64_t size) {
  return (side - size + 1) / 2;
}

Indices half_ring(int64_t side, int64_t n) {
  const auto inside = [&](int64_t size, int64_t y, int64_t x) {
    const int64_t at = kernel_offset(side, size);
    return y >= at && y < at + size && x >= at && x < at + size;
  };
  return positions(side, [&](int64_t y, int64_t x) { return inside(side - n + 1, y, x) && !inside(side - n, y, x); });
}

Indices ring(int64_t side, int64_t n) {
  return positions(side, [&](int64_t y, int64_t x) { return std::min({y, x, side - 1 - y, side - 1 - x}) == n - 1; });
}

at::Tensor kernel_mask(const Indices& sizes, int64_t side, const at::TensorOptions& options) {
  at::Tensor mask = at::zeros({static_cast<int64_t>(sizes.size()), 1, side, side}, options);
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) continue;
    const int64_t at = kernel_offset(side, sizes[f]);
    mask[static_cast<int64_t>(f)].narrow(1, at, sizes[f]).narrow(2, at, sizes[f]).fill_(1);
  }
  return mask;
}

std::vector<KernelFamily> kernel_families(const Graph& graph, const Weights& weights, const Selector& on) {
  std::vector<KernelFamily> families;
  for (const ParamId id : (on.empty() ? Selector("convolutions") : on).match(graph)) {
    const Parameter& p = graph[id];
    if (p.kind != "weight" || p.shape.size() != 4) continue;
    const Slot& slot = weights.slot(id);
    const int64_t side = slot.sizes[2];
    if (side < 2 || slot.sizes[3] != side) continue;
    families.push_back({.parameter = id,
                        .offset = slot.offset,
                        .filters = slot.sizes[0],
                        .filter = slot.sizes[1] * side * side,
                        .side = side,
                        .channels = slot.sizes[1]});
  }
  return families;
}

}  // namespace espalier
