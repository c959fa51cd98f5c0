#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// A linear layer on the CPU, of rows [rows, features], that adds its weight's gradient into the one there is: LibTorch
// makes another tensor first. weight: float32 [outputs, features]; bias: float32 [outputs] or undefined.

// x: float32. Of any derivative.
at::Tensor fast_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Computed in bfloat16, as autocast has it; the weight's gradient, in bfloat16, too, is added to the float32 one in one
// pass. x: float32 or bfloat16. Result: bfloat16. Differentiable once.
at::Tensor fast_linear_bfloat16(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace espalier
