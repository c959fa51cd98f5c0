#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/selector.h"
#include "espalier/shape.h"
#include "espalier/weights.h"

// Which positions of a square kernel belong together when its size is learned (paper 001, section 3): one definition
// for the regularizers, for cropping (CropKernels) and for exports. A kernel of side K shrinks by half-rings: its
// outermost row and column go by turns, first those on the top left, so that what is left of size s begins at
// kernel_offset(K, s).
namespace espalier {

// Returns where a kernel of size s (0 <= s <= side) begins in both dimensions of a kernel of `side`: (side - s + 1)
// / 2.
ESPALIER_API int64_t kernel_offset(int64_t side, int64_t size);

// Returns the positions [row * side + column], ascending, of the n-th half-ring (1 <= n <= side): those which a kernel
// of size side - n + 1 has and one of size side - n has not. The half-rings of a kernel are disjoint and cover it.
ESPALIER_API Indices half_ring(int64_t side, int64_t n);

// Returns the positions of the n-th ring (1 <= n <= (side + 1) / 2), from the outside: those at a distance of n - 1
// from the border.
ESPALIER_API Indices ring(int64_t side, int64_t n);

// Returns ones where filters of these sizes have their kernels, and zeros elsewhere: [filters, 1, side, side].
ESPALIER_API at::Tensor kernel_mask(const Indices& sizes, int64_t side, const at::TensorOptions& options);

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
