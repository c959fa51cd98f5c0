#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/random.h"

namespace espalier {

// Sizes around those of warps and blocks, and one that needs several blocks of 128 or 256 threads.
inline const std::vector<int64_t> odd_sizes{1, 31, 33, 64, 65, 127, 128, 129, 257, 1000};

// Returns n numbers that are uniform in [low, high).
template <class T>
std::vector<T> numbers(int64_t n, uint64_t seed, double low = -1, double high = 1) {
  std::vector<T> all(static_cast<size_t>(n));
  for (size_t i = 0; i < all.size(); ++i) {
    const Random4 r = philox(RandomKey(seed).value(), i);
    all[i] = static_cast<T>(low + (high - low) * unit_double(r.v[0], r.v[1]));
  }
  return all;
}

// Returns the same numbers as float64, in which every float32 is exact.
template <class T>
std::vector<double> as_doubles(const std::vector<T>& x) {
  return {x.begin(), x.end()};
}

// Expects the same bytes, also of zeros with a sign.
template <class T>
void expect_same_bytes(const std::vector<T>& expected, const std::vector<T>& got, const std::string& what) {
  ASSERT_EQ(expected.size(), got.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&expected[i], &got[i], sizeof(T)) == 0) continue;
    ADD_FAILURE() << what << ", element " << i << ": expected " << expected[i] << ", got " << got[i];
    return;
  }
}

// Expects |got - expected| <= tolerance * max(1, |expected|).
inline void expect_near(const std::vector<double>& expected, const std::vector<double>& got, double tolerance,
                        const std::string& what) {
  ASSERT_EQ(expected.size(), got.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::abs(got[i] - expected[i]) <= tolerance * std::max(1.0, std::abs(expected[i]))) continue;
    ADD_FAILURE() << what << ", element " << i << ": expected " << expected[i] << ", got " << got[i] << ", tolerance "
                  << tolerance;
    return;
  }
}

}  // namespace espalier
