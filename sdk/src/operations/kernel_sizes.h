#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/kernel_support.h"
#include "espalier/shape.h"

namespace espalier {

// Convolutions whose filters have kernels of different sizes (paper 001; kernel_support.h says where each lies).
// Filters that run as one convolution.
struct KernelClass {
  int64_t side = 0;    // of the convolution's kernel: as odd or even as the whole's, so that it stays centred
  int64_t offset = 0;  // in the whole
  Indices filters;
  bool padded = false;  // some of the kernels are smaller
};

// How they run fastest: each class pays for reading the images and for channels up to a multiple of the vector's width,
// so small ones join the next larger. Filters of size 0 are in none.
std::vector<KernelClass> kernel_classes(const Indices& sizes, int64_t side, int64_t channels);

// The convolution. weight: [filters, channels, side, side], of which what lies outside a filter's kernel does not
// count. fuse: by what has no second derivative, where that is faster.
at::Tensor convolve_sizes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const Indices& sizes,
                          KernelCorner first, int64_t stride, int64_t padding, bool fuse);

}  // namespace espalier
