#include "kernels/bfloat16_conv_kernels.h"

#include "espalier/error.h"
#include "espalier/isa.h"
#include "kernels/bfloat16_kernels.h"

#if defined(__x86_64__)

#include <algorithm>
#include <memory>
#include <vector>

// What GCC 12 says of its own header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "espalier/parallel.h"

#define BFLOAT16_PRODUCTS [[gnu::target("arch=x86-64-v4,avx512bf16")]]

namespace espalier {

namespace {

// A product of the processor takes two numbers of each of sixteen lanes: here those of two neighbouring pixels.
constexpr int64_t lanes = 16, filters_at_once = 8;

int64_t blocks_of(int64_t n, int64_t each) {
  return (n + each - 1) / each;
}

// The first n of sixteen; none of a block that is not there.
__mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>((1U << std::clamp<int64_t>(n, 0, lanes)) - 1);
}

// Some rows of some images, each pixel beside its right neighbour, as the products take them.
class Pairs {
 public:
  Pairs(const Bfloat16ConvGeometry& g, int64_t images, int64_t rows)
      : g_(g),
        pairs_(blocks_of(g.out_width(), 2)),
        of_row_(g.stride == 1 ? 2 * pairs_ + 1 : 3 * pairs_),
        channel_blocks_(blocks_of(g.channels, lanes)),
        filter_blocks_(2 * blocks_of(g.filters, lanes)),
        input_rows_((rows - 1) * g.stride + 3),
        rows_(rows),
        x_(static_cast<size_t>(images * input_rows_ * channel_blocks_ * of_row_ * 2 * lanes)),
        gy_(static_cast<size_t>(images * rows * filter_blocks_ * pairs_ * lanes)) {}

  int64_t count() const { return pairs_; }
  // Where the pairs begin that a column of the kernel's taps meets. With stride 1 those of the last column are those of
  // the first one from the second pair on.
  int64_t column(int64_t kx) const {
    if (g_.stride == 2) return kx * pairs_;
    return kx == 0 ? 0 : kx == 1 ? pairs_ + 1 : 1;
  }
  // Of the row of inputs that the row ky of the kernel's taps meets at output row `row` of these: pairs of 16 channels,
  // [16, 2].
  const uint16_t* inputs(int64_t image, int64_t row, int64_t ky, int64_t channel_block) const {
    return x_.data() + x_offset(image, row * g_.stride + ky, channel_block);
  }
  // [pairs, 8 filters, 2]
  const uint16_t* gradients(int64_t image, int64_t row, int64_t filter_block) const {
    return gy_.data() + ((image * rows_ + row) * filter_blocks_ + filter_block) * pairs_ * lanes;
  }

  // The rows from `first` on of an image.
  BFLOAT16_PRODUCTS void take_inputs(int64_t image, const uint16_t* x, int64_t first) {
    for (int64_t r = 0; r < input_rows_; ++r) {
      const int64_t row = first * g_.stride - g_.padding + r;
      if (row < 0 || row >= g_.height) continue;
      for (int64_t b = 0; b < channel_blocks_; ++b) {
        uint16_t* to = x_.data() + x_offset(image, r, b);
        const __mmask16 there = first_lanes(g_.channels - b * lanes);
        const uint16_t* from = x + row * g_.width * g_.channels + b * lanes;
        const auto pixel = [&](int64_t at) __attribute__((target("arch=x86-64-v4,avx512bf16"))) {
          return at < 0 || at >= g_.width ? _mm256_setzero_si256()
                                          : _mm256_maskz_loadu_epi16(there, from + at * g_.channels);
        };
        for (int64_t kx = 0; kx < (g_.stride == 1 ? 2 : 3); ++kx) {
          const int64_t count = pairs_ + (g_.stride == 1 && kx == 0 ? 1 : 0);
          for (int64_t j = 0; j < count; ++j, to += 2 * lanes) {
            const int64_t left = 2 * j * g_.stride + kx - g_.padding;
            _mm512_storeu_si512(to, beside(pixel(left), pixel(left + g_.stride)));
          }
        }
      }
    }
  }
  BFLOAT16_PRODUCTS void take_gradients(int64_t image, const uint16_t* gy, int64_t first, int64_t rows) {
    const int64_t width = g_.out_width();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t b = 0; b < filter_blocks_; b += 2) {
        const __mmask16 there = first_lanes(g_.filters - b / 2 * lanes);
        const uint16_t* from = gy + (first + r) * width * g_.filters + b / 2 * lanes;
        uint16_t* to = gy_.data() + ((image * rows_ + r) * filter_blocks_ + b) * pairs_ * lanes;
        for (int64_t j = 0; j < pairs_; ++j, to += lanes) {
          const uint16_t* left = from + 2 * j * g_.filters;
          const __m512i both =
              beside(_mm256_maskz_loadu_epi16(there, left),
                     2 * j + 1 < width ? _mm256_maskz_loadu_epi16(there, left + g_.filters) : _mm256_setzero_si256());
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(both));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + pairs_ * lanes), _mm512_extracti64x4_epi64(both, 1));
        }
      }
    }
  }

 private:
  int64_t x_offset(int64_t image, int64_t row, int64_t channel_block) const {
    return ((image * input_rows_ + row) * channel_blocks_ + channel_block) * of_row_ * 2 * lanes;
  }
  // The numbers of both in turns.
  BFLOAT16_PRODUCTS static __m512i beside(__m256i a, __m256i b) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
  }

  const Bfloat16ConvGeometry& g_;
  int64_t pairs_, of_row_, channel_blocks_, filter_blocks_, input_rows_, rows_;
  std::vector<uint16_t> x_, gy_;
};

// What rows of some images add to the sums of one row of taps, eight filters and sixteen channels, [3, 8, 16];
// these are nothing as yet where `begin`.
BFLOAT16_PRODUCTS void add_products(const Bfloat16ConvGeometry& g, const Pairs& pairs, int64_t images, int64_t first,
                                    int64_t rows, int64_t ky, int64_t filter_block, int64_t channel_block, bool begin,
                                    float* sums) {
  __m512 sum[3][filters_at_once];
#pragma GCC unroll 3
  for (int64_t kx = 0; kx < 3; ++kx) {
#pragma GCC unroll 8
    for (int64_t f = 0; f < filters_at_once; ++f)
      sum[kx][f] = begin ? _mm512_setzero_ps() : _mm512_loadu_ps(sums + (kx * filters_at_once + f) * lanes);
  }
  const int64_t count = pairs.count(), second = pairs.column(1) * 2 * lanes, third = pairs.column(2) * 2 * lanes;
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = (first + r) * g.stride + ky - g.padding;
      if (row < 0 || row >= g.height) continue;
      const uint16_t* x = pairs.inputs(n, r, ky, channel_block);
      const uint16_t* gy = pairs.gradients(n, r, filter_block);
      for (int64_t j = 0; j < count; ++j, x += 2 * lanes, gy += 2 * filters_at_once) {
        const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x));
        const auto middle = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + second));
        const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x + third));
#pragma GCC unroll 8
        for (int64_t f = 0; f < filters_at_once; ++f) {
          int32_t two;
          __builtin_memcpy(&two, gy + 2 * f, sizeof two);
          const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
          sum[0][f] = _mm512_dpbf16_ps(sum[0][f], left, both);
          sum[1][f] = _mm512_dpbf16_ps(sum[1][f], middle, both);
          sum[2][f] = _mm512_dpbf16_ps(sum[2][f], right, both);
        }
      }
    }
  }
#pragma GCC unroll 3
  for (int64_t kx = 0; kx < 3; ++kx) {
#pragma GCC unroll 8
    for (int64_t f = 0; f < filters_at_once; ++f)
      _mm512_storeu_ps(sums + (kx * filters_at_once + f) * lanes, sum[kx][f]);
  }
}

// Weights as the products of a convolution take them, [filters / 16, 3, channels / 2, 3, 16 filters, 2], an even number
// of blocks of filters.
// weight(f, ky, kx, c): one of them.
template <class Weight>
std::vector<uint16_t> in_lanes(int64_t filters, int64_t channels, const Weight& weight) {
  const int64_t pairs = blocks_of(channels, 2);
  std::vector<uint16_t> all(static_cast<size_t>(blocks_of(filters, 2 * lanes) * 2 * 9 * pairs * 2 * lanes), 0);
  uint16_t* const to = all.data();
  parallel_for(3 * blocks_of(filters, lanes), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row / 3 * lanes, ky = row % 3;
      for (int64_t f = first; f < std::min(filters, first + lanes); ++f) {
        for (int64_t c = 0; c < channels; ++c) {
          for (int64_t kx = 0; kx < 3; ++kx)
            to[(((row * pairs + c / 2) * 3 + kx) * lanes + f - first) * 2 + c % 2] = weight(f, ky, kx, c);
        }
      }
    }
  });
  return all;
}

// Rows of an image between borders of zeros, [rows, pixels, pairs of channels, 2].
struct Bordered {
  int64_t pixels, channels;  // of a row; an even number
  std::vector<uint16_t> numbers{};

  const uint16_t* row(int64_t r) const { return numbers.data() + r * pixels * channels; }
  void take(int64_t r, const uint16_t* from, int64_t border, int64_t width, int64_t of_image) {
    uint16_t* to = numbers.data() + (r * pixels + border) * channels;
    if (of_image == channels) {
      std::copy_n(from, width * channels, to);
      return;
    }
    for (int64_t x = 0; x < width; ++x) std::copy_n(from + x * of_image, of_image, to + x * channels);
  }
};

// So many neighbouring outputs of a row, of so many blocks of sixteen filters, of which `filters` are
// there. of_pixel: numbers from an output to the next. x: the first pixel of the first of three
// rows of inputs; rows [first_ky, last_ky] of them are there. weight: of the first block; y: the first output.
template <int outputs, int blocks, int stride>
BFLOAT16_PRODUCTS void convolve(const uint16_t* x, int64_t channels, int64_t of_row, int64_t first_ky, int64_t last_ky,
                                const uint16_t* weight, int64_t of_block, int64_t count, int64_t filters,
                                int64_t of_pixel, const float* bias, uint16_t* y) {
  __m512 sum[blocks][outputs];
#pragma GCC unroll 4
  for (int b = 0; b < blocks; ++b) {
    const __m512 start =
        bias ? _mm512_maskz_loadu_ps(first_lanes(filters - b * lanes), bias + b * lanes) : _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int o = 0; o < outputs; ++o) sum[b][o] = start;
  }
  const int64_t pairs = channels / 2;
  for (int64_t ky = first_ky; ky <= last_ky; ++ky) {
    const uint16_t* pixels = x + ky * of_row;
    const uint16_t* w = weight + ky * pairs * 3 * 2 * lanes;
    for (int64_t c = 0; c < pairs; ++c, pixels += 2, w += 3 * 2 * lanes) {
      __m512bh taps[blocks][3];
#pragma GCC unroll 4
      for (int b = 0; b < blocks; ++b) {
#pragma GCC unroll 3
        for (int kx = 0; kx < 3; ++kx)
          taps[b][kx] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + b * of_block + kx * 2 * lanes));
      }
      const uint16_t* pixel = pixels;
#pragma GCC unroll 20
      for (int i = 0; i < (outputs - 1) * stride + 3; ++i, pixel += channels) {
        int32_t two;
        __builtin_memcpy(&two, pixel, sizeof two);
        const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(two));
#pragma GCC unroll 3
        for (int kx = 0; kx < 3; ++kx) {
          if (i < kx || (i - kx) % stride != 0 || (i - kx) / stride >= outputs) continue;
#pragma GCC unroll 4
          for (int b = 0; b < blocks; ++b)
            sum[b][(i - kx) / stride] = _mm512_dpbf16_ps(sum[b][(i - kx) / stride], both, taps[b][kx]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < blocks; ++b) {
    const int64_t left = filters - b * lanes;
    const __mmask16 there = first_lanes(left);
#pragma GCC unroll 16
    for (int o = 0; o < outputs; ++o) {
      if (o >= count) continue;
      _mm256_mask_storeu_epi16(y + o * of_pixel + b * lanes, there,
                               reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sum[b][o])));
    }
  }
}

// weights: of in_lanes. g: of what is computed.
template <int outputs, int blocks, int stride>
void convolve_all(const Bfloat16ConvGeometry& g, const uint16_t* x, const std::vector<uint16_t>& weights,
                  const float* bias, uint16_t* y) {
  const int64_t height = g.out_height(), width = g.out_width(), channels = 2 * blocks_of(g.channels, 2);
  const int64_t of_block = 9 * channels * lanes;
  const int64_t pixels = (blocks_of(width, outputs) * outputs - 1) * stride + 3;
  // As many rows as stay in the second cache.
  constexpr int64_t held = 64 << 10;  // numbers
  const int64_t rows = std::clamp<int64_t>(held / (pixels * channels * stride), 1, height);
  const int64_t input_rows = (rows - 1) * stride + 3;
  parallel_for(g.batch, 1, [&](int64_t begin, int64_t end) {
    Bordered image{pixels, channels};
    image.numbers.assign(static_cast<size_t>(input_rows * pixels * channels), 0);
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t first = 0; first < height; first += rows) {
        const int64_t top = first * stride - g.padding;
        for (int64_t r = std::max<int64_t>(0, -top); r < std::min(input_rows, g.height - top); ++r) {
          image.take(r, x + (n * g.height + top + r) * g.width * g.channels, g.padding,
                     std::min(g.width, pixels - g.padding), g.channels);
        }
        for (int64_t f = 0; f < g.filters; f += blocks * lanes) {
          const uint16_t* w = weights.data() + f / lanes * of_block;
          for (int64_t row = first; row < std::min(height, first + rows); ++row) {
            const int64_t above = row * stride - g.padding;
            const int64_t first_ky = std::max<int64_t>(0, -above), last_ky = std::min<int64_t>(2, g.height - 1 - above);
            for (int64_t o = 0; o < width; o += outputs) {
              convolve<outputs, blocks, stride>(
                  image.row((row - first) * stride) + o * stride * channels, channels, pixels * channels, first_ky,
                  last_ky, w, of_block, std::min<int64_t>(outputs, width - o), g.filters - f, g.filters,
                  bias ? bias + f : nullptr, y + ((n * height + row) * width + o) * g.filters + f);
            }
          }
        }
      }
    }
  });
}

void convolve_any(const Bfloat16ConvGeometry& g, const uint16_t* x, const std::vector<uint16_t>& weights,
                  const float* bias, uint16_t* y) {
  if (g.stride == 2) {
    g.filters > lanes ? convolve_all<8, 2, 2>(g, x, weights, bias, y) : convolve_all<8, 1, 2>(g, x, weights, bias, y);
  } else if (g.filters > lanes || g.out_width() <= 8) {
    g.filters > lanes ? convolve_all<8, 2, 1>(g, x, weights, bias, y) : convolve_all<8, 1, 1>(g, x, weights, bias, y);
  } else {
    convolve_all<16, 1, 1>(g, x, weights, bias, y);
  }
}

void require_bfloat16_products() {
  if (!has_bfloat16_products()) throw Error("bfloat16 convolutions have no form of their own on this processor");
}

}  // namespace

void bfloat16_convolution(const Bfloat16ConvGeometry& g, const uint16_t* x, const uint16_t* weight, const float* bias,
                          uint16_t* y) {
  require_bfloat16_products();
  convolve_any(g, x,
               in_lanes(g.filters, g.channels,
                        [&](int64_t f, int64_t ky, int64_t kx, int64_t c) {
                          return weight[((f * 3 + ky) * 3 + kx) * g.channels + c];
                        }),
               bias, y);
}

void bfloat16_input_gradient(const Bfloat16ConvGeometry& g, const uint16_t* gy, const uint16_t* weight, uint16_t* gx) {
  require_bfloat16_products();
  // A convolution of gy with the weights turned round.
  const Bfloat16ConvGeometry back{g.batch, g.out_height(), g.out_width(), g.filters, g.channels, 1, 2 - g.padding};
  convolve_any(back, gy,
               in_lanes(g.channels, g.filters,
                        [&](int64_t c, int64_t ky, int64_t kx, int64_t f) {
                          return weight[((f * 3 + 2 - ky) * 3 + 2 - kx) * g.channels + c];
                        }),
               nullptr, gx);
}

void bfloat16_weight_gradient(const Bfloat16ConvGeometry& g, const uint16_t* x, const uint16_t* gy, bool add,
                              float* gw) {
  require_bfloat16_products();
  const int64_t channel_blocks = blocks_of(g.channels, lanes), filter_blocks = blocks_of(g.filters, filters_at_once);
  const int64_t height = g.out_height(), width = g.out_width();
  constexpr int64_t of_block = 3 * filters_at_once * lanes;
  const int64_t of_part = 3 * filter_blocks * channel_blocks * of_block;
  // As many rows of images as the second cache holds, or several images.
  constexpr int64_t held = 64 << 10;  // numbers
  const int64_t of_row =
      blocks_of(width, 2) * 2 * lanes * (3 * channel_blocks * g.stride + blocks_of(g.filters, lanes));
  const int64_t rows = std::clamp<int64_t>(held / of_row, 1, height);
  const int64_t together = std::clamp<int64_t>(held / (of_row * height), 1, g.batch);
  // Parts of the batch, the same for any number of threads, have sums of their own.
  // Fewer where the sums are large, since all must be added.
  const int64_t of_images = blocks_of(g.batch, of_part > 1 << 14 ? 8 : 16), parts = blocks_of(g.batch, of_images);
  const auto all = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(parts * of_part));
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    Pairs pairs(g, std::min(together, of_images), rows);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t behind = std::min(g.batch, (part + 1) * of_images);
      for (int64_t image = part * of_images; image < behind; image += together) {
        const int64_t images = std::min(together, behind - image);
        for (int64_t first = 0; first < height; first += rows) {
          const int64_t of_these = std::min(rows, height - first);
          for (int64_t n = 0; n < images; ++n) {
            pairs.take_inputs(n, x + (image + n) * g.height * g.width * g.channels, first);
            pairs.take_gradients(n, gy + (image + n) * height * width * g.filters, first, of_these);
          }
          const bool begins = image == part * of_images && first == 0;
          float* sums = all.get() + part * of_part;
          for (int64_t ky = 0; ky < 3; ++ky) {
            for (int64_t f = 0; f < filter_blocks; ++f) {
              for (int64_t c = 0; c < channel_blocks; ++c, sums += of_block)
                add_products(g, pairs, images, first, of_these, ky, f, c, begins, sums);
            }
          }
        }
      }
    }
  });
  parallel_for(3 * filter_blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(static_cast<size_t>(of_block));
    for (int64_t block = begin; block < end; ++block) {
      const int64_t ky = block / filter_blocks, first_filter = block % filter_blocks * filters_at_once;
      for (int64_t c = 0; c < channel_blocks; ++c) {
        const float* from = all.get() + (block * channel_blocks + c) * of_block;
        float* to = sum.data();
        vector_loop(0, of_block, [=](int64_t i) {
          float s = 0;
          for (int64_t part = 0; part < parts; ++part) s += from[part * of_part + i];
          to[i] = s;
        });
        const int64_t channels = std::min(lanes, g.channels - c * lanes);
        for (int64_t f = 0; f < std::min(filters_at_once, g.filters - first_filter); ++f) {
          for (int64_t kx = 0; kx < 3; ++kx) {
            const float* s = sum.data() + (kx * filters_at_once + f) * lanes;
            float* w = gw + (((first_filter + f) * 3 + ky) * 3 + kx) * g.channels + c * lanes;
            for (int64_t i = 0; i < channels; ++i) w[i] = add ? w[i] + s[i] : s[i];
          }
        }
      }
    }
  });
}

}  // namespace espalier

#else

namespace espalier {

void bfloat16_convolution(const Bfloat16ConvGeometry&, const uint16_t*, const uint16_t*, const float*, uint16_t*) {
  throw Error("this processor has no AVX512-BF16");
}
void bfloat16_input_gradient(const Bfloat16ConvGeometry&, const uint16_t*, const uint16_t*, uint16_t*) {
  throw Error("this processor has no AVX512-BF16");
}
void bfloat16_weight_gradient(const Bfloat16ConvGeometry&, const uint16_t*, const uint16_t*, bool, float*) {
  throw Error("this processor has no AVX512-BF16");
}

}  // namespace espalier

#endif
