#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/random.h"

namespace espalier {

// Fills a dense float32, float64 or bfloat16 tensor, in memory order, with 0 (with probability p, 0 <= p < 1) or
// 1 / (1 - p). Every device and every number of threads gives the same. `first`: how many elements of a larger mask
// come before; what is filled is this part of it. Throws Error if the tensor is not dense.
ESPALIER_API void fill_dropout_mask(at::Tensor& mask, double p, RandomKey key, int64_t first = 0);

// Returns a random permutation of 0..n-1, n < 2^32 (Fisher-Yates over counter-based draws). The order of the samples in
// an epoch is one.
ESPALIER_API std::vector<int64_t> permutation(int64_t n, RandomKey key);

// Returns a float64 tensor of these sizes on the CPU, with draws from the uniform distribution in [low, high).
ESPALIER_API at::Tensor uniform(const std::vector<int64_t>& sizes, double low, double high, RandomKey key);
// Returns a float64 tensor of these sizes on the CPU, with draws from the normal distribution of mean 0 and this
// standard deviation (Box-Muller).
ESPALIER_API at::Tensor normal(const std::vector<int64_t>& sizes, double deviation, RandomKey key);

}  // namespace espalier
