#include "kernels/layer_norm_kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/channel_loops.h"
#include "kernels/number_lanes.h"

namespace espalier {

namespace {

// Always sixteen, also where vectors are shorter: the order of a sum is the same on every instruction set.
constexpr int64_t lanes = 16;
using Numbers = NumberLanes<lanes>;
using V = Numbers::V;

// body(c, the vector of x from c on, ...) for the channels of a row; read(c, n) may be given fewer than sixteen.
template <class Body>
inline void each(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) body(c, lanes);
  if (c < channels) body(c, channels - c);
}
template <class T>
inline V read(const T* p, int64_t n) {
  return n == lanes ? Numbers::read(p) : Numbers::read_some(p, n);
}
template <class T>
inline void write(T* p, V v, int64_t n) {
  if (n == lanes) {
    Numbers::write(p, v);
  } else {
    Numbers::write_some(p, v, n);
  }
}
// Halves added to halves: four dependent additions instead of sixteen.
inline float sum_of(V v) {
  float s[lanes];
  channel_loops::store(s, v);
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) s[i] += s[i + half];
  }
  return s[0];
}

// Rows whose sums of gradients are made by one task.
int64_t rows_of_part(int64_t rows) {
  return std::max<int64_t>(16, (rows + 31) / 32);
}

}  // namespace

template <class T>
void layer_norm_forward(int64_t rows, int64_t channels, const T* x, const float* weight, const float* bias, double eps,
                        T* y, float* mean, float* deviation) {
  parallel_for(rows, std::max<int64_t>(1, 16384 / channels), [=](int64_t begin, int64_t end) {
    std::vector<float> memory(static_cast<size_t>(channels + lanes));
    float* values = memory.data();
    with_isa([=] {
      const float n = static_cast<float>(channels);
      for (int64_t r = begin; r < end; ++r) {
        const T* from = x + r * channels;
        T* to = y + r * channels;
        V sum{};
        each(
            channels, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
              const V v = read(from + c, some);
              sum += v;
              channel_loops::store(values + c, v);
            });
        const float m = sum_of(sum) / n;
        V squares{};
        each(
            channels, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
              V v = channel_loops::load<V>(values + c) - m;
              if (some < lanes) {
                for (int64_t i = some; i < lanes; ++i) v[i] = 0;
              }
              channel_loops::store(values + c, v);
              squares += v * v;
            });
        const double variance = static_cast<double>(sum_of(squares) / n);
        const float d = static_cast<float>(1 / std::sqrt(variance + eps));
        mean[r] = m;
        deviation[r] = d;
        each(
            channels, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
              V v = channel_loops::load<V>(values + c) * d;
              if (weight) v *= read(weight + c, some);
              if (bias) v += read(bias + c, some);
              write(to + c, v, some);
            });
      }
    });
  });
}

template <class T>
void layer_norm_backward(int64_t rows, int64_t channels, const T* x, const T* gy, const float* weight,
                         const float* mean, const float* deviation, T* gx, float* gw, float* gb) {
  // Sums over rows are made apart in stretches that do not depend on the number of threads.
  const int64_t per_part = rows_of_part(rows), parts = (rows + per_part - 1) / per_part;
  const int64_t wide = (channels + lanes - 1) / lanes * lanes;
  std::vector<float> sums(static_cast<size_t>(parts * 2 * wide), 0.0F);
  float* all = sums.data();
  parallel_for(parts, 1, [=](int64_t first, int64_t last) {
    std::vector<float> memory(static_cast<size_t>(2 * wide));
    float *given = memory.data(), *normal = given + wide;
    with_isa([=] {
      const float n = static_cast<float>(channels);
      for (int64_t p = first; p < last; ++p) {
        float *to_weight = all + p * 2 * wide, *to_bias = to_weight + wide;
        for (int64_t r = p * per_part; r < std::min(rows, (p + 1) * per_part); ++r) {
          const float m = mean[r], d = deviation[r];
          V sum{}, product{};
          each(
              channels, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
                // Where there are no more channels, the gradient is 0, and so is all that comes of it.
                const V g = read(gy + r * channels + c, some), z = (read(x + r * channels + c, some) - m) * d;
                channel_loops::store(to_weight + c, channel_loops::load<V>(to_weight + c) + g * z);
                channel_loops::store(to_bias + c, channel_loops::load<V>(to_bias + c) + g);
                const V v = weight ? g * read(weight + c, some) : g;
                sum += v;
                product += v * z;
                channel_loops::store(given + c, v);
                channel_loops::store(normal + c, z);
              });
          if (!gx) continue;
          const float a = sum_of(sum) / n, b = sum_of(product) / n;
          each(
              channels, [&](int64_t c, int64_t some) __attribute__((always_inline)) {
                const V v = channel_loops::load<V>(given + c) - a - channel_loops::load<V>(normal + c) * b;
                write(gx + r * channels + c, v * d, some);
              });
        }
      }
    });
  });
  if (!gw) return;
  for (int64_t c = 0; c < channels; ++c) {
    double w = 0, b = 0;
    for (int64_t p = 0; p < parts; ++p) {
      w += static_cast<double>(all[p * 2 * wide + c]);
      b += static_cast<double>(all[p * 2 * wide + wide + c]);
    }
    gw[c] = static_cast<float>(w);
    gb[c] = static_cast<float>(b);
  }
}

template void layer_norm_forward(int64_t, int64_t, const float*, const float*, const float*, double, float*, float*,
                                 float*);
template void layer_norm_forward(int64_t, int64_t, const uint16_t*, const float*, const float*, double, uint16_t*,
                                 float*, float*);
template void layer_norm_backward(int64_t, int64_t, const float*, const float*, const float*, const float*,
                                  const float*, float*, float*, float*);
template void layer_norm_backward(int64_t, int64_t, const uint16_t*, const uint16_t*, const float*, const float*,
                                  const float*, uint16_t*, float*, float*);

}  // namespace espalier
