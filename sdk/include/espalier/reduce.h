#pragma once

#include <cstdint>

namespace espalier {

// Returns the sum of the squares of n elements, for bodies of with_isa(). It keeps sixteen partial sums, as many as the
// widest vectors hold, so that the result is the same on every instruction set.
template <class T>
inline T sum_of_squares(const T* x, int64_t n) {
  constexpr int64_t lanes = 16;
  T sums[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma omp simd
    for (int64_t j = 0; j < lanes; ++j) sums[j] += x[i + j] * x[i + j];
  }
  T total = 0;
  for (; i < n; ++i) total += x[i] * x[i];
  for (const T s : sums) total += s;
  return total;
}

}  // namespace espalier
