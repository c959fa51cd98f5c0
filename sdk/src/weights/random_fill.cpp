#include "espalier/random_fill.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include "cuda/kernels.h"
#include "espalier/error.h"
#include "weights/dropout_mask.h"

namespace espalier {

void fill_dropout_mask(at::Tensor& mask, double p, RandomKey key, int64_t first) {
  if (!mask.is_non_overlapping_and_dense()) throw Error("fill_dropout_mask: the tensor must be dense");
  const int64_t n = mask.numel();
  const auto threshold = static_cast<uint32_t>(std::min(p * 0x1p32, 4294967295.0));
  const double kept = 1 / (1 - p);
  if (mask.is_cuda()) return cuda::fill_dropout_mask(mask, threshold, kept, key, first);
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, mask.scalar_type(), "fill_dropout_mask", [&] {
    dropout_mask_on_cpu(mask.data_ptr<scalar_t>(), first, n, threshold, kept, key);
  });
}

std::vector<int64_t> permutation(int64_t n, RandomKey key) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    const uint32_t bits = philox(key.value(), static_cast<uint64_t>(i)).v[0];
    std::swap(order[static_cast<size_t>(i)], order[below(bits, static_cast<uint32_t>(i + 1))]);
  }
  return order;
}

at::Tensor uniform(const std::vector<int64_t>& sizes, double low, double high, RandomKey key) {
  at::Tensor t = at::empty(sizes, at::kDouble);
  auto* out = t.data_ptr<double>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    const Random4 r = philox(key.value(), static_cast<uint64_t>(i));
    out[i] = low + (high - low) * unit_double(r.v[0], r.v[1]);
  }
  return t;
}

at::Tensor normal(const std::vector<int64_t>& sizes, double deviation, RandomKey key) {
  at::Tensor t = at::empty(sizes, at::kDouble);
  auto* out = t.data_ptr<double>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    const Random4 r = philox(key.value(), static_cast<uint64_t>(i));
    const double radius = std::sqrt(-2 * std::log(1 - unit_double(r.v[0], r.v[1])));
    out[i] = deviation * radius * std::cos(2 * std::numbers::pi * unit_double(r.v[2], r.v[3]));
  }
  return t;
}

}  // namespace espalier
