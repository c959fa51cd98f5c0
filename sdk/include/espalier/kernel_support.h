#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/selector.h"
#include "espalier/shape.h"
#include "espalier/weights.h"

// Which positions of a square kernel belong together when its size is learned (paper 001, section 3): one definition
// for the regularizers, for cropping (CropKernels) and for exports. A kernel of side K shrinks by half-rings: its
// outermost row and column go by turns, first those on the top left (or, with KernelCorner::bottom_right, those on the
// bottom right), so that what is left of size s begins at kernel_offset(K, s).
namespace espalier {

// Returns where a kernel of size s (0 <= s <= side) begins in both dimensions of a kernel of `side`: (side - s + 1) / 2
// if the top left goes first, (side - s) / 2 if the bottom right does.
ESPALIER_API int64_t kernel_offset(int64_t side, int64_t size, KernelCorner first = KernelCorner::top_left);

// Returns the positions [row * side + column], ascending, of the n-th half-ring (1 <= n <= side): those which a kernel
// of size side - n + 1 has and one of size side - n has not. The half-rings of a kernel are disjoint and cover it.
ESPALIER_API Indices half_ring(int64_t side, int64_t n, KernelCorner first = KernelCorner::top_left);

// Returns the positions of the n-th ring (1 <= n <= (side + 1) / 2), from the outside: those at a distance of n - 1
// from the border.
ESPALIER_API Indices ring(int64_t side, int64_t n);

// By which pieces a kernel shrinks: half-rings leave every size, rings those that are as odd or even as the kernel, and
// 0 (paper 001, eq. (18) and (19)).
enum class KernelRings { half_ring, ring };

// How kernels shrink.
struct KernelShrinkage {
  KernelRings rings = KernelRings::half_ring;   // by which pieces
  KernelCorner first = KernelCorner::top_left;  // of half-rings, on which side they begin

  // Returns how many pieces a kernel of this side has, and so how many nested groups: side of half-rings, half of the
  // side, rounded up, of rings.
  ESPALIER_API int64_t count(int64_t side) const;
  // Returns the positions of the n-th piece, 1 <= n <= count(side), from the outside.
  ESPALIER_API Indices piece(int64_t side, int64_t n) const;
  // Returns the nested group G_n of the paper: the positions of the first n pieces, ascending.
  ESPALIER_API Indices group(int64_t side, int64_t n) const;
  // Returns the size of what is left of a kernel without its first n pieces, 0 <= n <= count(side).
  ESPALIER_API int64_t size_left(int64_t side, int64_t n) const;
};

// Returns the way to shrink that these words of a recipe name: "half_ring" or "ring", "top_left" or "bottom_right".
// Throws Error if a word is another.
ESPALIER_API KernelShrinkage kernel_shrinkage(const std::string& rings, const std::string& first);

// Returns ones where filters of these sizes have their kernels, and zeros elsewhere: [filters, 1, side, side].
ESPALIER_API at::Tensor kernel_mask(const Indices& sizes, int64_t side, const at::TensorOptions& options,
                                    KernelCorner first = KernelCorner::top_left);

// The kernels of one convolution in the arena of weights: the element of filter f, row y, column x and channel c lies
// at offset + f * filter + (y * side + x) * channels + c, so that a position of the kernel is one contiguous piece of
// each filter.
struct KernelFamily {
  ParamId parameter;     // the weight
  int64_t offset = 0;    // of the first filter, in the arena of weights
  int64_t filters = 0;   // how many there are
  int64_t filter = 0;    // elements of a filter: side * side * channels
  int64_t side = 0;      // of the kernels
  int64_t channels = 0;  // that each filter reads
};

// Returns the square kernels larger than 1 of the selected weights; an empty selector: of all convolutions.
ESPALIER_API std::vector<KernelFamily> kernel_families(const Graph& graph, const Weights& weights, const Selector& on);

}  // namespace espalier
