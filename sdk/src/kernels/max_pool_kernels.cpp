#include "kernels/max_pool_kernels.h"

#include <algorithm>
#include <cstring>

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

namespace {

// Offset of the window's position (dy, dx). What lies in the padding is replaced by the nearest pixel inside, which is
// in the window too: the maximum stays.
inline int64_t offset_of(const PoolGeometry& g, int64_t oy, int64_t ox, int64_t dy, int64_t dx) {
  const int64_t y = std::clamp<int64_t>(oy * g.stride - g.padding + dy, 0, g.height - 1);
  const int64_t x = std::clamp<int64_t>(ox * g.stride - g.padding + dx, 0, g.width - 1);
  return (y * g.width + x) * g.channels;
}

template <int K, bool Relu>
inline void forward_image(const PoolGeometry& g, const float* x, float* y, int32_t* which) {
  const int64_t channels = g.channels;
  for (int64_t oy = 0; oy < g.out_height; ++oy) {
    for (int64_t ox = 0; ox < g.out_width; ++ox, y += channels, which += channels) {
      const float* p[K * K];
      for (int k = 0; k < K * K; ++k) p[k] = x + offset_of(g, oy, ox, k / K, k % K);
      float* out = y;
      int32_t* at = which;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        float m = p[0][c];
        int32_t w = 0;
#pragma GCC unroll 9
        for (int k = 1; k < K * K; ++k) {
          const float v = p[k][c];
          const bool up = (v > m) | (v != v);
          m = up ? v : m;
          w = up ? k : w;
        }
        if (Relu) {
          const bool cut = m <= 0;
          m = cut ? 0.0F : m;
          w = cut ? -1 : w;
        }
        out[c] = m;
        at[c] = w;
      }
    }
  }
}

template <int K>
inline void backward_image(const PoolGeometry& g, bool apart, const float* gy, const int32_t* which, float* gx) {
  const int64_t channels = g.channels;
  for (int64_t oy = 0; oy < g.out_height; ++oy) {
    for (int64_t ox = 0; ox < g.out_width; ++ox, gy += channels, which += channels) {
#pragma GCC unroll 9
      for (int k = 0; k < K * K; ++k) {
        float* to = gx + offset_of(g, oy, ox, k / K, k % K);
        const float* from = gy;
        const int32_t* at = which;
        if (apart) {
#pragma omp simd
          for (int64_t c = 0; c < channels; ++c) to[c] = at[c] == k ? from[c] : 0.0F;
        } else {
#pragma omp simd
          for (int64_t c = 0; c < channels; ++c) to[c] += at[c] == k ? from[c] : 0.0F;
        }
      }
    }
  }
}

}  // namespace

void max_pool_forward(const PoolGeometry& g, bool relu, const float* x, float* y, int32_t* which) {
  const int64_t in = g.height * g.width * g.channels, out = g.out_height * g.out_width * g.channels;
  parallel_for(g.batch, std::max<int64_t>(1, (1 << 14) / in), [&](int64_t begin, int64_t end) {
    with_isa([=] {
      for (int64_t n = begin; n < end; ++n) {
        const float* image = x + n * in;
        float* to = y + n * out;
        int32_t* at = which + n * out;
        if (g.kernel == 2) {
          relu ? forward_image<2, true>(g, image, to, at) : forward_image<2, false>(g, image, to, at);
        } else {
          relu ? forward_image<3, true>(g, image, to, at) : forward_image<3, false>(g, image, to, at);
        }
      }
    });
  });
}

void max_pool_backward(const PoolGeometry& g, const float* gy, const int32_t* which, float* gx) {
  const int64_t in = g.height * g.width * g.channels, out = g.out_height * g.out_width * g.channels;
  // Windows that neither overlap nor leave pixels out: every gradient is written once.
  const bool apart = g.stride == g.kernel && g.padding == 0 && g.out_height * g.kernel == g.height &&
                     g.out_width * g.kernel == g.width;
  parallel_for(g.batch, std::max<int64_t>(1, (1 << 14) / in), [&](int64_t begin, int64_t end) {
    with_isa([=] {
      for (int64_t n = begin; n < end; ++n) {
        float* to = gx + n * in;
        if (!apart) std::memset(to, 0, static_cast<size_t>(in) * sizeof(float));
        if (g.kernel == 2) {
          backward_image<2>(g, apart, gy + n * out, which + n * out, to);
        } else {
          backward_image<3>(g, apart, gy + n * out, which + n * out, to);
        }
      }
    });
  });
}

}  // namespace espalier
