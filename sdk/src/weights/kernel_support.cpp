#include "espalier/kernel_support.h"

#include <algorithm>

#include <ATen/ops/zeros.h>

#include "espalier/error.h"

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

int64_t kernel_offset(int64_t side, int64_t size, KernelCorner first) {
  return (side - size + (first == KernelCorner::top_left ? 1 : 0)) / 2;
}

Indices half_ring(int64_t side, int64_t n, KernelCorner first) {
  const auto inside = [&](int64_t size, int64_t y, int64_t x) {
    const int64_t at = kernel_offset(side, size, first);
    return y >= at && y < at + size && x >= at && x < at + size;
  };
  return positions(side, [&](int64_t y, int64_t x) { return inside(side - n + 1, y, x) && !inside(side - n, y, x); });
}

Indices ring(int64_t side, int64_t n) {
  return positions(side, [&](int64_t y, int64_t x) { return std::min({y, x, side - 1 - y, side - 1 - x}) == n - 1; });
}

int64_t KernelShrinkage::count(int64_t side) const {
  return rings == KernelRings::half_ring ? side : (side + 1) / 2;
}

Indices KernelShrinkage::piece(int64_t side, int64_t n) const {
  return rings == KernelRings::half_ring ? half_ring(side, n, first) : ring(side, n);
}

Indices KernelShrinkage::group(int64_t side, int64_t n) const {
  Indices all;
  for (int64_t i = 1; i <= n; ++i) {
    const Indices more = piece(side, i);
    all.insert(all.end(), more.begin(), more.end());
  }
  std::ranges::sort(all);
  return all;
}

int64_t KernelShrinkage::size_left(int64_t side, int64_t n) const {
  return rings == KernelRings::half_ring ? side - n : std::max<int64_t>(0, side - 2 * n);
}

KernelShrinkage kernel_shrinkage(const std::string& rings, const std::string& first) {
  KernelShrinkage s;
  if (rings != "half_ring" && rings != "ring")
    throw Error("kernels shrink by 'half_ring' or by 'ring', not by '" + rings + "'");
  if (first != "top_left" && first != "bottom_right")
    throw Error("kernels begin to shrink at 'top_left' or at 'bottom_right', not at '" + first + "'");
  s.rings = rings == "ring" ? KernelRings::ring : KernelRings::half_ring;
  s.first = first == "bottom_right" ? KernelCorner::bottom_right : KernelCorner::top_left;
  return s;
}

at::Tensor kernel_mask(const Indices& sizes, int64_t side, const at::TensorOptions& options, KernelCorner first) {
  at::Tensor mask = at::zeros({static_cast<int64_t>(sizes.size()), 1, side, side}, options);
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) continue;
    const int64_t at = kernel_offset(side, sizes[f], first);
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
