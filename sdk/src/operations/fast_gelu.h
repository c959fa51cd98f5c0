#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// Whether fast_gelu() takes a tensor: float32 or bfloat16 without gaps on the CPU, where the processor has vectors.
bool is_fast_gelu(const at::Tensor& x);

// x times the normal distribution function. Of any derivative.
at::Tensor fast_gelu(const at::Tensor& x);

}  // namespace espalier
