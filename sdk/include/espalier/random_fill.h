#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/random.h"

namespace espalier {

// Fills a dense float32, float64 or bfloat16 tensor, in memory order, with 0 (probability p) or 1 / (1 - p). The same
// on every device and for any number of threads.
ESPALIER_API void fill_dropout_mask(at::Tensor& mask, double p, RandomKey key);

// A permutation of 0..n-1 (Fisher-Yates over counter-based draws): the order of the samples in an epoch.
ESPALIER_API std::vector<int64_t> permutation(int64_t n, RandomKey key);

// n draws on the CPU, in order: uniform in [low, high); normal with the standard deviation (Box-Muller).
ESPALIER_API at::Tensor uniform(const std::vector<int64_t>& sizes, double low, double high, RandomKey key);
ESPALIER_API at::Tensor normal(const std::vector<int64_t>& sizes, double deviation, RandomKey key);

}  // namespace espalier
