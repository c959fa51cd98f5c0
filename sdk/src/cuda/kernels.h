#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/random.h"

// Where the SDK's CPU code hands over to its CUDA kernels. Without CUDA each throws.
namespace espalier::cuda {

void fill_dropout_mask(at::Tensor& mask, uint32_t threshold, double kept, RandomKey key, int64_t first);

}  // namespace espalier::cuda
