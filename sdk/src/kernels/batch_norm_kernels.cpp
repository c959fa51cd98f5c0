#include "kernels/batch_norm_kernels.h"

#include <algorithm>
#include <vector>

#include "kernels/channel_loops.h"

namespace espalier {

namespace {

using namespace channel_loops;

// Two sums over the rows of each channel, in blocks: body(T, c, first, end, s, p) adds those of its rows.
template <class Body>
void sums_over_rows(int64_t rows, int64_t channels, double* sum, double* product, const Body& body) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  std::vector<float> partial(static_cast<size_t>(2 * blocks * channels), 0.0F);
  float* all = partial.data();
  for_blocks(rows, channels, [=](int64_t b, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      T s{}, p{};
      body(zero, c, first, first + count, s, p);
      store<T>(all + 2 * b * channels + c, s);
      store<T>(all + (2 * b + 1) * channels + c, p);
    });
  });
  std::fill(sum, sum + channels, 0.0);
  std::fill(product, product + channels, 0.0);
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      sum[c] += static_cast<double>(all[2 * b * channels + c]);
      product[c] += static_cast<double>(all[(2 * b + 1) * channels + c]);
    }
  }
}

}  // namespace

template <class A>
void channel_moments(int64_t rows, int64_t channels, const A* x, double* mean, double* squares) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  std::vector<float> partial(static_cast<size_t>(2 * blocks * channels), 0.0F);
  float* all = partial.data();
  for_blocks(rows, channels, [=](int64_t b, int64_t first, int64_t count) {
    const float share = 1.0F / static_cast<float>(count);
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const A* from = x + first * channels + c;
      const T start = load<T>(from);
      T m{}, s{};
      for (int64_t r = 0; r < count; ++r)
        m += load<T>(from + r * channels) - start;  // from the first row: sums stay small
      m = start + m * share;
      for (int64_t r = 0; r < count; ++r) {
        const T d = load<T>(from + r * channels) - m;
        s += d * d;
      }
      store<T>(all + 2 * b * channels + c, m);
      store<T>(all + (2 * b + 1) * channels + c, s);
    });
  });
  // Moments of blocks put together (Chan, Golub & LeVeque 1983).
  std::fill(mean, mean + channels, 0.0);
  std::fill(squares, squares + channels, 0.0);
  double before = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const auto count = static_cast<double>(std::min(per_block, rows - b * per_block));
    const float* m = all + 2 * b * channels;
    const float* s = m + channels;
    const double share = count / (before + count);
    for (int64_t c = 0; c < channels; ++c) {
      const double d = static_cast<double>(m[c]) - mean[c];
      mean[c] += d * share;
      squares[c] += static_cast<double>(s[c]) + d * d * before * share;
    }
    before += count;
  }
}

template <class A>
void scale_shift(int64_t rows, int64_t channels, const A* x, const float* scale, const float* shift, const A* added,
                 bool relu, A* y) {
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const T k = load<T>(scale + c), h = load<T>(shift + c);
      for (int64_t i = first * channels + c; i < (first + count) * channels; i += channels) {
        T v = load<T>(x + i) * k + h;
        if (added) v += load<T>(added + i);
        store<T>(y + i, relu ? relu_of<T>(v, v) : v);
      }
    });
  });
}

template <class A>
void gradient_sums(int64_t rows, int64_t channels, const A* gy, const A* x, const float* scale, const float* shift,
                   const float* mean, bool relu, double* sum, double* product) {
  sums_over_rows(rows, channels, sum, product, [=](auto zero, int64_t c, int64_t first, int64_t end, auto& s, auto& p) {
    using T = decltype(zero);
    const T k = load<T>(scale + c), h = load<T>(shift + c), m = load<T>(mean + c);
    for (int64_t i = first * channels + c; i < end * channels; i += channels) {
      const T v = load<T>(x + i);
      T g = load<T>(gy + i);
      if (relu) g = relu_of<T>(v * k + h, g);
      s += g;
      p += g * (v - m);
    }
  });
}

template <class A>
void scale_shift_gradient(int64_t rows, int64_t channels, const A* gy, const A* x, const float* scale,
                          const float* shift, const float* mean, const float* a, const float* b, bool relu, A* gx) {
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const T k = load<T>(scale + c), h = load<T>(shift + c), m = load<T>(mean + c);
      const T slope = load<T>(a + c), offset = load<T>(b + c);
      for (int64_t i = first * channels + c; i < (first + count) * channels; i += channels) {
        const T v = load<T>(x + i);
        T g = load<T>(gy + i);
        if (relu) g = relu_of<T>(v * k + h, g);
        store<T>(gx + i, g * k + ((v - m) * slope + offset));
      }
    });
  });
}

template <class A>
void added_relu_gradient_sums(int64_t rows, int64_t channels, const A* gy, const A* y, const A* x, const float* mean,
                              A* g, double* sum, double* product) {
  sums_over_rows(rows, channels, sum, product, [=](auto zero, int64_t c, int64_t first, int64_t end, auto& s, auto& p) {
    using T = decltype(zero);
    const T m = load<T>(mean + c);
    for (int64_t i = first * channels + c; i < end * channels; i += channels) {
      const T v = relu_of<T>(load<T>(y + i), load<T>(gy + i));
      store<T>(g + i, v);
      s += v;
      p += v * (load<T>(x + i) - m);
    }
  });
}

template void channel_moments(int64_t, int64_t, const float*, double*, double*);
template void channel_moments(int64_t, int64_t, const uint16_t*, double*, double*);
template void scale_shift(int64_t, int64_t, const float*, const float*, const float*, const float*, bool, float*);
template void scale_shift(int64_t, int64_t, const uint16_t*, const float*, const float*, const uint16_t*, bool,
                          uint16_t*);
template void gradient_sums(int64_t, int64_t, const float*, const float*, const float*, const float*, const float*,
                            bool, double*, double*);
template void gradient_sums(int64_t, int64_t, const uint16_t*, const uint16_t*, const float*, const float*,
                            const float*, bool, double*, double*);
template void scale_shift_gradient(int64_t, int64_t, const float*, const float*, const float*, const float*,
                                   const float*, const float*, const float*, bool, float*);
template void scale_shift_gradient(int64_t, int64_t, const uint16_t*, const uint16_t*, const float*, const float*,
                                   const float*, const float*, const float*, bool, uint16_t*);
template void added_relu_gradient_sums(int64_t, int64_t, const float*, const float*, const float*, const float*, float*,
                                       double*, double*);
template void added_relu_gradient_sums(int64_t, int64_t, const uint16_t*, const uint16_t*, const uint16_t*,
                                       const float*, uint16_t*, double*, double*);

}  // namespace espalier
