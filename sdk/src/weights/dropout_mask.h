#pragma once

#include <algorithm>
#include <cstdint>

#include "espalier/parallel.h"
#include "espalier/random.h"

namespace espalier {

// Fills elements [first, first + n) of a dropout mask on the CPU: 0 with the probability threshold / 2^32, else `kept`.
// Element i takes word i % 4 of the counter i / 4.
template <class T>
void dropout_mask_on_cpu(T* mask, int64_t first, int64_t n, uint32_t threshold, double kept, RandomKey key) {
  const int64_t words = first / 4;  // of four draws each, which come before
  parallel_for((first + n + 3) / 4 - words, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = words + begin; i < words + end; ++i) {
      const Random4 r = philox(key.value(), static_cast<uint64_t>(i));
      for (int64_t j = std::max(4 * i, first); j < std::min(4 * i + 4, first + n); ++j)
        mask[j - first] = static_cast<T>(r.v[j & 3] < threshold ? 0 : kept);
    }
  });
}

}  // namespace espalier
