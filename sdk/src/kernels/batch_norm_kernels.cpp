#include "kernels/batch_norm_kernels.h"

#include <algorithm>
#include <vector>

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

namespace {

// Rows of a block: what stays in the nearest caches while it is read twice.
int64_t block_rows(int64_t channels) {
  return std::max<int64_t>(1, 8192 / channels);
}

// body(block, first row, rows) for every block of rows, on all threads, in the machine's instruction set.
template <class Body>
void for_blocks(int64_t rows, int64_t channels, const Body& body) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  parallel_for(blocks, 2, [&](int64_t begin, int64_t end) {
    with_isa([=] {
      for (int64_t b = begin; b < end; ++b) body(b, b * per_block, std::min(per_block, rows - b * per_block));
    });
  });
}

// Sums over the rows of what body(row, s, p) adds for each row, in blocks.
template <class Body>
void sums_over_rows(int64_t rows, int64_t channels, double* sum, double* product, const Body& body) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  std::vector<float> partial(static_cast<size_t>(2 * blocks * channels), 0.0F);
  float* all = partial.data();
  for_blocks(rows, channels, [=](int64_t b, int64_t first, int64_t count) {
    float* s = all + 2 * b * channels;
    for (int64_t r = first; r < first + count; ++r) body(r, s, s + channels);
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

void channel_moments(int64_t rows, int64_t channels, const float* x, double* mean, double* squares) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  std::vector<float> partial(static_cast<size_t>(2 * blocks * channels), 0.0F);
  float* all = partial.data();
  for_blocks(rows, channels, [=](int64_t b, int64_t first, int64_t count) {
    float* m = all + 2 * b * channels;
    float* s = m + channels;
    const float* from = x + first * channels;
    for (int64_t r = 0; r < count; ++r) {
      const float* row = from + r * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) m[c] += row[c] - from[c];  // from the first row: sums stay small
    }
    const float share = 1.0F / static_cast<float>(count);
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) m[c] = from[c] + m[c] * share;
    for (int64_t r = 0; r < count; ++r) {
      const float* row = from + r * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float d = row[c] - m[c];
        s[c] += d * d;
      }
    }
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

void scale_shift_relu(int64_t rows, int64_t channels, const float* x, const float* scale, const float* shift,
                      const float* added, float* y) {
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = x + r * channels;
      float* to = y + r * channels;
      if (added) {
        const float* more = added + r * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) {
          const float v = row[c] * scale[c] + shift[c] + more[c];
          to[c] = v <= 0 ? 0.0F : v;
        }
      } else {
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) {
          const float v = row[c] * scale[c] + shift[c];
          to[c] = v <= 0 ? 0.0F : v;
        }
      }
    }
  });
}

void scale_shift_relu_gradient(int64_t rows, int64_t channels, const float* gy, const float* x, const float* scale,
                               const float* shift, const float* mean, const float* a, const float* b, float* gx) {
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = x + r * channels;
      const float* from = gy + r * channels;
      float* to = gx + r * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        const float g = row[c] * scale[c] + shift[c] <= 0 ? 0.0F : from[c];
        to[c] = g * scale[c] + ((row[c] - mean[c]) * a[c] + b[c]);
      }
    }
  });
}

void relu_gradient_sums(int64_t rows, int64_t channels, const float* gy, const float* x, const float* scale,
                        const float* shift, const float* mean, double* sum, double* product) {
  sums_over_rows(rows, channels, sum, product, [=](int64_t r, float* s, float* p) {
    const float* row = x + r * channels;
    const float* from = gy + r * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float g = row[c] * scale[c] + shift[c] <= 0 ? 0.0F : from[c];
      s[c] += g;
      p[c] += g * (row[c] - mean[c]);
    }
  });
}

void added_relu_gradient_sums(int64_t rows, int64_t channels, const float* gy, const float* y, const float* x,
                              const float* mean, float* g, double* sum, double* product) {
  sums_over_rows(rows, channels, sum, product, [=](int64_t r, float* s, float* p) {
    const float* row = x + r * channels;
    const float* from = gy + r * channels;
    const float* out = y + r * channels;
    float* to = g + r * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const float v = out[c] <= 0 ? 0.0F : from[c];
      to[c] = v;
      s[c] += v;
      p[c] += v * (row[c] - mean[c]);
    }
  });
}

void scale_shift_gradient(int64_t rows, int64_t channels, const float* g, const float* x, const float* scale,
                          const float* mean, const float* a, const float* b, float* gx) {
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for (int64_t r = first; r < first + count; ++r) {
      const float* row = x + r * channels;
      const float* from = g + r * channels;
      float* to = gx + r * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) to[c] = from[c] * scale[c] + ((row[c] - mean[c]) * a[c] + b[c]);
    }
  });
}

}  // namespace espalier
