#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// Whether fast_layer_norm() takes a tensor: rows of channels without gaps, float32 or bfloat16, on the CPU; its weight
// is float32, if there is one.
bool is_fast_layer_norm(const at::Tensor& x, const at::Tensor& weight);

// x [..., channels], normalised over its channels. weight, bias: [channels] or both undefined. Of any derivative.
at::Tensor fast_layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

}  // namespace espalier
