#include "scores/sums_kernels.h"

#include <algorithm>
#include <cmath>

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

namespace {

// Sixteen partial sums, whatever the vectors hold.
template <int power, class T>
inline double row_sum(const T* x, int64_t n) {
  constexpr int64_t lanes = 16;
  double sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma omp simd
    for (int64_t j = 0; j < lanes; ++j) {
      const auto v = static_cast<double>(x[i + j]);
      sums[j] += power == 1 ? std::abs(v) : v * v;
    }
  }
  double total = 0;
  for (; i < n; ++i) {
    const auto v = static_cast<double>(x[i]);
    total += power == 1 ? std::abs(v) : v * v;
  }
  for (const double s : sums) total += s;
  return total;
}

template <class T>
void all_rows(const T* values, int64_t rows, int64_t size, int power, double* sums) {
  const int64_t grain = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, size));
  parallel_for(rows, grain, [=](int64_t begin, int64_t end) {
    with_isa([=] {
      for (int64_t r = begin; r < end; ++r) {
        const T* x = values + r * size;
        sums[r] = power == 1 ? row_sum<1>(x, size) : row_sum<2>(x, size);
      }
    });
  });
}

}  // namespace

void row_sums(const float* values, int64_t rows, int64_t size, int power, double* sums) {
  all_rows(values, rows, size, power, sums);
}

void row_sums(const double* values, int64_t rows, int64_t size, int power, double* sums) {
  all_rows(values, rows, size, power, sums);
}

}  // namespace espalier
