#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace espalier {

// Whether products of bfloat16 matrices are computed in float32 from the same numbers, and the result is rounded.
// Without AVX-512, LibTorch has no kernels of its own for them: with AVX2 and LibTorch 2.11 a linear layer takes 4 to
// 20 times as long as in float32, and a convolution 7 to 30 times. Nothing is lost: a product of bfloat16 matrices adds
// in float32, too.
bool is_bfloat16_slow();

// Whether autocast makes the operations on x bfloat16 ones, on the CPU.
bool is_bfloat16_on_cpu(const at::Tensor& x);

// Autocast leaves the operations of this thread alone while it lives.
class WithoutAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard_{c10::DispatchKey::AutocastCPU};
};

// A convolution computed in this way. x: float32 or bfloat16 [batch, channels, height, width]; weight and bias:
// float32, the bias may be undefined. Result: bfloat16. Differentiable once.
at::Tensor conv_through_float(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride,
                              int64_t padding, int64_t dilation, int64_t groups);

// A convolution of 3x3 kernels where the processor has products of bfloat16 numbers (AVX512-BF16), by loops that are
// faster than LibTorch's for up to some hundred channels, above all the weight's gradient. The weight's gradient is
// float32, and is added to the one there is. x: float32 or bfloat16 [batch, channels, height, width]; weight and bias:
// float32, the bias may be undefined. Result: bfloat16. Undefined where LibTorch is as fast. Differentiable once.
at::Tensor fast_conv_bfloat16(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride,
                              int64_t padding);

}  // namespace espalier
