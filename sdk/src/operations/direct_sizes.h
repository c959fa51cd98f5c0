#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/kernel_support.h"
#include "espalier/shape.h"

namespace espalier {

// A convolution whose filters have kernels of different sizes, computed tap by tap on CPUs with AVX-512: each filter
// takes the taps that it has, and no more where its gradients are computed; forward, sixteen filters of neighbouring
// sizes take those of the largest of them. Everything is done an image at a time, so that images stay in the caches.
class DirectSizes {
 public:
  // Of a weight with kernels of `side`, of which each filter has `sizes`.
  DirectSizes(const Indices& sizes, int64_t side, KernelCorner first, int64_t stride, int64_t padding);

  // Whether this machine has what it takes for a convolution with this padding.
  static bool is_possible(int64_t side, int64_t padding);
  // Whether the gradients can be computed so, too: for stride 1 and at least 16 channels.
  bool has_gradients(int64_t channels) const;

  // x: float32, channels_last, [batch, channels, height, width]; weight: [filters, channels, side, side]; shift: one
  // for each filter. Returns [batch, filters, ...] in channels_last order.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& weight, const std::vector<float>& shift) const;

  // Writes the gradients of x and of the weight where they are defined: tensors of their sizes, channels_last, that of
  // the weight with zeros. gy: of the result, channels_last.
  void backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gy, const at::Tensor& gx,
                const at::Tensor& gw) const;

 private:
  // Whether a filter has a tap.
  bool has(int64_t filter, int64_t row, int64_t column) const;

  Indices sizes_;
  int64_t side_;
  KernelCorner first_;
  int64_t stride_, padding_;
  Indices filters_;  // those that have a kernel, the largest first
};

}  // namespace espalier
