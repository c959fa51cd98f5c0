#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/kernel_support.h"
#include "espalier/shape.h"

namespace espalier {

// Convolutions whose filters have kernels of different sizes (paper 001; kernel_support.h says where each lies).
// Filters that run as one convolution.
struct KernelClass {
  int64_t side = 0;     // of the convolution's kernel
  int64_t offset = 0;   // in the whole
  Indices filters;      // ascending
  bool padded = false;  // some of the kernels are smaller
};

// How they run fastest. A convolution computes a vector of filters at a time, so the filters are taken from the largest
// kernel on, a vector after the other, each as large as its largest kernel, and neighbours run together where a further
// convolution would cost more than it saves. Filters of size 0 are in none.
// border: how much more a convolution of images costs that reaches a row and a column beyond them, as kernels need that
// do not lie in the middle of the whole; 0: no such kernels, each is as odd or even as the whole.
std::vector<KernelClass> kernel_classes(const Indices& sizes, int64_t side, int64_t channels,
                                        KernelCorner first = KernelCorner::top_left, double border = 0);

// The convolution. weight: [filters, channels, side, side], of which what lies outside a filter's kernel does not
// count. fuse: by what has no second derivative, where that is faster.
at::Tensor convolve_sizes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const Indices& sizes,
                          KernelCorner first, int64_t stride, int64_t padding, bool fuse);

}  // namespace espalier
