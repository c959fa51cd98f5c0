#pragma once

#include <ATen/core/Tensor.h>

#include "fast_cpu.h"

namespace espalier {

// A convolution of 3x3 kernels on the CPU by Winograd's minimal filtering (kernels/winograd_kernels.h), stride 1.
// x: float32 [batch, channels, height, width] in channels_last order; weight: [filters, channels, 3, 3]; bias:
// [filters] or undefined. The weight's gradient is added into the one there is. Of any derivative, the second and
// higher ones by LibTorch. Undefined where there is little to gain: few channels, few tiles, or maps of three pixels.
at::Tensor fast_winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding);
// The same without gradients, together with the norm behind it.
at::Tensor fast_winograd_folded(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding,
                                const FoldedNorm& norm);

}  // namespace espalier
