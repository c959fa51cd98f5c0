#include "kernels/tap_sum_kernels.h"

#include "espalier/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espalier {

#if defined(__x86_64__)

namespace {

// These are written for AVX-512 alone: what they gain is that one instruction multiplies sixteen numbers by one from
// memory and adds them.
#define ESPALIER_AVX512 [[gnu::target("avx512f")]]

template <int pixels>
ESPALIER_AVX512 void some_pixels(const float* image, int64_t step, const TapSums& sums, float* to) {
  __m512 sum[pixels];
  for (int p = 0; p < pixels; ++p) sum[p] = _mm512_setzero_ps();
  const size_t count = sums.offsets.size();
  const int32_t* offset = sums.offsets.data();
  const float* weight = sums.weights.data();
  for (size_t k = 0; k < count; ++k, weight += tap_lanes) {
    const __m512 w = _mm512_loadu_ps(weight);
    const float* x = image + offset[k];
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) sum[p] = _mm512_fmadd_ps(_mm512_set1_ps(x[p * step]), w, sum[p]);
  }
  for (int p = 0; p < pixels; ++p) _mm512_storeu_ps(to + p * tap_lanes, sum[p]);
}

// The same for two sixteens, of which the second has only the offsets that both share.
template <int pixels>
ESPALIER_AVX512 void some_pixels_of_two(const float* image, int64_t step, const TapSums& a, const TapSums& b,
                                        float* to_a, float* to_b) {
  __m512 sum[pixels], other[pixels];
  for (int p = 0; p < pixels; ++p) sum[p] = other[p] = _mm512_setzero_ps();
  const int32_t* offset = a.offsets.data();
  const float *weight = a.weights.data(), *weight_b = b.weights.data();
  int64_t k = 0;
  for (; k < a.shared; ++k, weight += tap_lanes, weight_b += tap_lanes) {
    const __m512 w = _mm512_loadu_ps(weight), v = _mm512_loadu_ps(weight_b);
    const float* x = image + offset[k];
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) {
      const __m512 at = _mm512_set1_ps(x[p * step]);
      sum[p] = _mm512_fmadd_ps(at, w, sum[p]);
      other[p] = _mm512_fmadd_ps(at, v, other[p]);
    }
  }
  for (int p = 0; p < pixels; ++p) _mm512_storeu_ps(to_b + p * tap_lanes, other[p]);
  const auto count = static_cast<int64_t>(a.offsets.size());
  for (; k < count; ++k, weight += tap_lanes) {
    const __m512 w = _mm512_loadu_ps(weight);
    const float* x = image + offset[k];
#pragma GCC unroll 16
    for (int p = 0; p < pixels; ++p) sum[p] = _mm512_fmadd_ps(_mm512_set1_ps(x[p * step]), w, sum[p]);
  }
  for (int p = 0; p < pixels; ++p) _mm512_storeu_ps(to_a + p * tap_lanes, sum[p]);
}

template <int rows, int vectors>
ESPALIER_AVX512 void some_products(int64_t height, int64_t width, const Pixels& a, const Pixels& b, int64_t count_b,
                                   float* to) {
  __m512 sum[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_loadu_ps(to + i * count_b + j * tap_lanes);
  }
  for (int64_t y = 0; y < height; ++y) {
    const float *pa = a.data + y * a.row, *pb = b.data + y * b.row;
    for (int64_t n = 0; n < width; ++n, pa += a.step, pb += b.step) {
      __m512 x[vectors];
      for (int j = 0; j < vectors; ++j) x[j] = _mm512_loadu_ps(pb + j * tap_lanes);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const __m512 g = _mm512_set1_ps(pa[i]);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_fmadd_ps(g, x[j], sum[i][j]);
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) _mm512_storeu_ps(to + i * count_b + j * tap_lanes, sum[i][j]);
  }
}

// All numbers of a: eight, four, two or one at a time.
template <int vectors>
void products(int64_t height, int64_t width, const Pixels& a, int64_t count_a, const Pixels& b, int64_t count_b,
              float* to) {
  int64_t i = 0;
  const auto rows = [&](auto function, int64_t n) {
    for (; i + n <= count_a; i += n) function(height, width, {a.data + i, a.row, a.step}, b, count_b, to + i * count_b);
  };
  if constexpr (vectors <= 2) rows(some_products<8, vectors>, 8);
  rows(some_products<4, vectors>, 4);
  rows(some_products<2, vectors>, 2);
  rows(some_products<1, vectors>, 1);
}

}  // namespace

bool has_tap_sums() {
  return isa() == Isa::v4;
}

void tap_sums(const float* image, int64_t pixels, int64_t step, const std::vector<TapSums>& sums, float* to) {
  for (size_t v = 0; v < sums.size(); ++v) {
    const TapSums& s = sums[v];
    int64_t n = 0;
    const auto block = [&](auto function, int64_t count) {
      for (; n + count <= pixels; n += count) function(image + n * step, step, s, to + n * tap_lanes);
    };
    if (s.shared > 0) {
      const TapSums& next = sums[++v];
      float* of_next = to + pixels * tap_lanes;
      const auto block_of_two = [&](auto function, int64_t count) {
        for (; n + count <= pixels; n += count)
          function(image + n * step, step, s, next, to + n * tap_lanes, of_next + n * tap_lanes);
      };
      block_of_two(some_pixels_of_two<12>, 12);
      block_of_two(some_pixels_of_two<8>, 8);
      block_of_two(some_pixels_of_two<4>, 4);
      block_of_two(some_pixels_of_two<1>, 1);
      to += pixels * tap_lanes;
    } else {
      block(some_pixels<16>, 16);
      block(some_pixels<8>, 8);
      block(some_pixels<4>, 4);
      block(some_pixels<1>, 1);
    }
    to += pixels * tap_lanes;
  }
}

void add_tap_products(int64_t height, int64_t width, const Pixels& a, int64_t count_a, const Pixels& b, int64_t count_b,
                      float* to) {
  int64_t j = 0;
  const auto columns = [&](auto function, int64_t n) {
    for (; j + n <= count_b; j += n) function(height, width, a, count_a, {b.data + j, b.row, b.step}, count_b, to + j);
  };
  columns(products<4>, 4 * tap_lanes);
  columns(products<2>, 2 * tap_lanes);
  columns(products<1>, tap_lanes);
}

#else

bool has_tap_sums() {
  return false;
}
void tap_sums(const float*, int64_t, int64_t, const std::vector<TapSums>&, float*) {}
void add_tap_products(int64_t, int64_t, const Pixels&, int64_t, const Pixels&, int64_t, float*) {}

#endif

}  // namespace espalier
