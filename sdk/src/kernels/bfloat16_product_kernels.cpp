#include "kernels/bfloat16_product_kernels.h"

#include <algorithm>
#include <cstring>
#include <memory>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "espalier/error.h"
#include "kernels/channel_loops.h"

namespace espalier {

namespace {

constexpr int64_t panel = 32;         // columns of a panel: two vectors of sums
constexpr int64_t block = 16;         // pairs of rows that panels are filled up to
constexpr int64_t tile_rows = 14;     // with two vectors of each row, what registers hold
constexpr int64_t tile_columns = 12;  // of a transposed left factor; widths of networks are multiples of it more often
constexpr int64_t tiles_at_once = 8;  // whose left factors stay in the cache while panels pass by

constexpr int64_t ahead = 12;  // pairs of rows that are fetched before they are needed

constexpr int64_t filled(int64_t n, int64_t whole) {
  return (n + whole - 1) / whole * whole;
}
// Pairs of rows of a panel in memory.
constexpr int64_t pairs_of(int64_t depth) {
  return filled((depth + 1) / 2, block);
}

// Numbers of a tile of columns, with room for what its last store writes.
constexpr int64_t packed_columns(int64_t pairs) {
  return filled(pairs * tile_columns + 4, 16);
}

// Memory that begins with a line of the cache.
class Lines {
 public:
  explicit Lines(int64_t n) : memory_(std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(n + 16))) {}
  uint32_t* get() const {
    return reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) / 64 * 64);
  }

 private:
  std::unique_ptr<uint32_t[]> memory_;
};

}  // namespace

int64_t packed_size(int64_t depth, int64_t width) {
  return filled(width, panel) * pairs_of(depth);
}

#if defined(__x86_64__)

// Lambdas would not be compiled for these instructions, so there are none around intrinsics.
#define ESPALIER_BFLOAT16 [[gnu::target("arch=x86-64-v4,avx512bf16")]]
#define ESPALIER_BFLOAT16_INLINE [[gnu::target("arch=x86-64-v4,avx512bf16"), gnu::always_inline]] inline

namespace {

constexpr __mmask32 first_of(int64_t n) {
  return n >= 32 ? ~__mmask32{0} : (__mmask32{1} << n) - 1;
}

// Up to 32 numbers as bfloat16, zeros behind them.
ESPALIER_BFLOAT16_INLINE __m512i read(const uint16_t* p, __mmask32 which) {
  return _mm512_maskz_loadu_epi16(which, p);
}
ESPALIER_BFLOAT16_INLINE __m512i read(const float* p, __mmask32 which) {
  const auto low = static_cast<__mmask16>(which), high = static_cast<__mmask16>(which >> 16);
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, p + 16), _mm512_maskz_loadu_ps(low, p)));
}

// Which numbers of two rows make the first sixteen pairs, and the last.
ESPALIER_BFLOAT16_INLINE __m512i low_pairs() {
  const __m512i each = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_or_si512(each, _mm512_slli_epi32(_mm512_add_epi32(each, _mm512_set1_epi32(32)), 16));
}
ESPALIER_BFLOAT16_INLINE __m512i high_pairs() {
  return _mm512_add_epi16(low_pairs(), _mm512_set1_epi16(16));
}

template <class T>
ESPALIER_BFLOAT16 void pack_rows(int64_t begin, int64_t end, int64_t depth, int64_t width, const T* from,
                                 uint32_t* to) {
  const __m512i low = low_pairs(), high = high_pairs();
  const int64_t stride = pairs_of(depth) * panel;
  for (int64_t pair = begin; pair < end; ++pair) {
    const T* x = from + 2 * pair * width;
    const bool one = 2 * pair < depth, two = 2 * pair + 1 < depth;
    for (int64_t j = 0, p = 0; j < width; j += panel, ++p) {
      const __mmask32 which = first_of(width - j);
      const __m512i first = one ? read(x + j, which) : _mm512_setzero_si512();
      const __m512i second = two ? read(x + width + j, which) : _mm512_setzero_si512();
      uint32_t* y = to + p * stride + pair * panel;
      _mm512_storeu_si512(y, _mm512_permutex2var_epi16(first, low, second));
      _mm512_storeu_si512(y + 16, _mm512_permutex2var_epi16(first, high, second));
    }
  }
}

template <class T>
void pack(int64_t depth, int64_t width, const T* from, uint32_t* to) {
  parallel_for(pairs_of(depth), std::max<int64_t>(1, 16384 / width),
               [=](int64_t begin, int64_t end) { pack_rows(begin, end, depth, width, from, to); });
}

// Row by row as bfloat16: [panel, 2 * pairs].
ESPALIER_BFLOAT16 void round_rows(int64_t rows, int64_t depth, const float* from, uint32_t* to) {
  const int64_t pairs = pairs_of(depth);
  for (int64_t r = 0; r < panel; ++r) {
    for (int64_t k = 0; k < 2 * pairs; k += 32) {
      const __m512i x =
          r < rows && k < depth ? read(from + r * depth + k, first_of(depth - k)) : _mm512_setzero_si512();
      _mm512_storeu_si512(to + r * pairs + k / 2, x);
    }
  }
}

// One pair of numbers in all lanes.
ESPALIER_BFLOAT16_INLINE __m512bh pair_at(const void* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}

// y [height, up to 32 columns] = bias + x times a panel
template <int height>
ESPALIER_BFLOAT16_INLINE void tile(int64_t depth, int64_t width, int64_t columns, const uint16_t* x,
                                   const uint32_t* packed, const float* bias, uint16_t* y) {
  __m512 low[height], high[height];
  const __mmask32 which = first_of(columns);
  __m512 b0 = _mm512_setzero_ps(), b1 = b0;
  if (bias) {
    b0 = _mm512_maskz_loadu_ps(static_cast<__mmask16>(which), bias);
    b1 = _mm512_maskz_loadu_ps(static_cast<__mmask16>(which >> 16), bias + 16);
  }
#pragma GCC unroll 16
  for (int r = 0; r < height; ++r) {
    low[r] = b0;
    high[r] = b1;
  }
  const int64_t pairs = depth / 2;
  for (int64_t k = 0; k < pairs; ++k) {
    const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + k * panel));
    const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + k * panel + 16));
    _mm_prefetch(packed + (k + ahead) * panel, _MM_HINT_T0);
    _mm_prefetch(packed + (k + ahead) * panel + 16, _MM_HINT_T0);
#pragma GCC unroll 16
    for (int r = 0; r < height; ++r) {
      const __m512bh a = pair_at(x + r * depth + 2 * k);
      low[r] = _mm512_dpbf16_ps(low[r], a, left);
      high[r] = _mm512_dpbf16_ps(high[r], a, right);
    }
  }
  if (depth % 2) {  // the panel has zeros behind the last row
    const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + pairs * panel));
    const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + pairs * panel + 16));
#pragma GCC unroll 16
    for (int r = 0; r < height; ++r) {
      const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(x[r * depth + 2 * pairs]));
      low[r] = _mm512_dpbf16_ps(low[r], a, left);
      high[r] = _mm512_dpbf16_ps(high[r], a, right);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < height; ++r) {
    const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high[r], low[r]));
    if (columns >= panel) {  // a store with a mask takes longer
      _mm512_storeu_si512(y + r * width, rounded);
    } else {
      _mm512_mask_storeu_epi16(y + r * width, which, rounded);
    }
  }
}

inline void fetch(const uint16_t* p, int64_t n) {
  for (int64_t i = 0; i < n; i += 32) _mm_prefetch(p + i, _MM_HINT_T0);
}

ESPALIER_BFLOAT16 void multiply_rows(int64_t begin, int64_t end, int64_t depth, int64_t width, const uint16_t* x,
                                     const uint32_t* packed, const float* bias, uint16_t* y) {
  const int64_t stride = pairs_of(depth) * panel, at_once = tiles_at_once * tile_rows;
  for (int64_t first = begin; first < end; first += at_once) {
    const int64_t last = std::min(first + at_once, end);
    for (int64_t j = 0, p = 0; j < width; j += panel, ++p) {
      const uint32_t* b = packed + p * stride;
      const float* shift = bias ? bias + j : nullptr;
      int64_t i = first;
      for (; i + tile_rows <= last; i += tile_rows) {
        if (j == 0) fetch(x + (i + tile_rows) * depth, tile_rows * depth);
        tile<tile_rows>(depth, width, width - j, x + i * depth, b, shift, y + i * width + j);
      }
      for (; i + 4 <= last; i += 4) tile<4>(depth, width, width - j, x + i * depth, b, shift, y + i * width + j);
      for (; i < last; ++i) tile<1>(depth, width, width - j, x + i * depth, b, shift, y + i * width + j);
    }
  }
}

// The columns [first, first + 12 tiles) of a, [rows, height], as pairs of rows: [tiles, pairs, 12]. The sums of the
// columns are added to `columns` where it is not null.
ESPALIER_BFLOAT16 void pack_columns(int64_t rows, int64_t height, int64_t first, int64_t tiles, const uint16_t* a,
                                    uint32_t* to, float* columns) {
  const int64_t pairs = (rows + 1) / 2;
  const __m512i low = low_pairs();
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3F80));
  __m512 sums[tiles_at_once];
  for (int64_t t = 0; t < tiles; ++t) sums[t] = _mm512_setzero_ps();
  for (int64_t k = 0; k < pairs; ++k) {
    const uint16_t *one = a + 2 * k * height, *two = one + height;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t c = first + t * tile_columns;
      const __mmask32 which = first_of(std::min(tile_columns, height - c));
      const __m512i x = read(one + c, which), z = 2 * k + 1 < rows ? read(two + c, which) : _mm512_setzero_si512();
      const __m512i both = _mm512_permutex2var_epi16(x, low, z);
      // Four pairs too many, which the next ones overwrite: a store with a mask takes longer.
      _mm512_storeu_si512(to + t * packed_columns(pairs) + k * tile_columns, both);
      sums[t] = _mm512_dpbf16_ps(sums[t], reinterpret_cast<__m512bh>(both), ones);
    }
  }
  if (!columns) return;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t c = first + t * tile_columns;
    const auto which = static_cast<__mmask16>(first_of(std::min(tile_columns, height - c)));
    _mm512_mask_storeu_ps(columns + c, which, _mm512_add_ps(_mm512_maskz_loadu_ps(which, columns + c), sums[t]));
  }
}

// sum [height <= 12, up to 32 columns] += packed columns times a panel
ESPALIER_BFLOAT16_INLINE void transposed_tile(int64_t pairs, int64_t height, int64_t width, int64_t columns,
                                              const uint32_t* a, const uint32_t* packed, float* sum) {
  __m512 low[tile_columns], high[tile_columns];
#pragma GCC unroll 16
  for (int r = 0; r < tile_columns; ++r) low[r] = high[r] = _mm512_setzero_ps();
  for (int64_t k = 0; k < pairs; ++k) {
    const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + k * panel));
    const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(packed + k * panel + 16));
    _mm_prefetch(packed + (k + ahead) * panel, _MM_HINT_T0);
    _mm_prefetch(packed + (k + ahead) * panel + 16, _MM_HINT_T0);
    _mm_prefetch(a + (k + ahead) * tile_columns, _MM_HINT_T0);
#pragma GCC unroll 16
    for (int r = 0; r < tile_columns; ++r) {
      const __m512bh x = pair_at(a + k * tile_columns + r);
      low[r] = _mm512_dpbf16_ps(low[r], x, left);
      high[r] = _mm512_dpbf16_ps(high[r], x, right);
    }
  }
  const __mmask32 which = first_of(columns);
  const auto first = static_cast<__mmask16>(which), second = static_cast<__mmask16>(which >> 16);
#pragma GCC unroll 16
  for (int r = 0; r < tile_columns; ++r) {
    if (r >= height) return;
    float* s = sum + r * width;
    if (columns >= panel) {
      _mm512_storeu_ps(s, _mm512_add_ps(_mm512_loadu_ps(s), low[r]));
      _mm512_storeu_ps(s + 16, _mm512_add_ps(_mm512_loadu_ps(s + 16), high[r]));
      continue;
    }
    _mm512_mask_storeu_ps(s, first, _mm512_add_ps(_mm512_maskz_loadu_ps(first, s), low[r]));
    _mm512_mask_storeu_ps(s + 16, second, _mm512_add_ps(_mm512_maskz_loadu_ps(second, s + 16), high[r]));
  }
}

// Tiles of the rows of the sum.
ESPALIER_BFLOAT16 void add_tiles(int64_t begin, int64_t end, int64_t rows, int64_t height, int64_t width,
                                 const uint16_t* a, const uint32_t* packed, float* sum, float* columns,
                                 uint32_t* memory) {
  const int64_t pairs = (rows + 1) / 2, stride = pairs_of(rows) * panel;
  for (int64_t first = begin; first < end; first += tiles_at_once) {
    const int64_t tiles = std::min(tiles_at_once, end - first);
    pack_columns(rows, height, first * tile_columns, tiles, a, memory, columns);
    for (int64_t j = 0, p = 0; j < width; j += panel, ++p) {
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = (first + t) * tile_columns;
        transposed_tile(pairs, std::min(tile_columns, height - i), width, width - j, memory + t * packed_columns(pairs),
                        packed + p * stride, sum + i * width + j);
      }
    }
  }
}

}  // namespace

void pack_factor(int64_t depth, int64_t width, const float* from, uint32_t* to) {
  pack(depth, width, from, to);
}
void pack_factor(int64_t depth, int64_t width, const uint16_t* from, uint32_t* to) {
  pack(depth, width, from, to);
}

void pack_transposed_factor(int64_t depth, int64_t width, const float* from, uint32_t* to) {
  const int64_t pairs = pairs_of(depth), panels = (width + panel - 1) / panel;
  parallel_for(panels, std::max<int64_t>(1, 512 / depth), [=](int64_t begin, int64_t end) {
    const Lines memory(panel * pairs);
    uint32_t* rows = memory.get();
    for (int64_t p = begin; p < end; ++p) {
      round_rows(width - p * panel, depth, from + p * panel * depth, rows);
      channel_loops::at_lanes<16>([=] {
        for (int64_t r = 0; r < panel; r += 16) {
          for (int64_t k = 0; k < pairs; k += 16) {
            channel_loops::transpose_block<16>(reinterpret_cast<const float*>(rows + r * pairs + k), pairs,
                                               reinterpret_cast<float*>(to + (p * pairs + k) * panel + r), panel);
          }
        }
      });
    }
  });
}

void multiply_bfloat16(int64_t rows, int64_t depth, int64_t width, const uint16_t* x, const uint32_t* packed,
                       const float* bias, uint16_t* y) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  parallel_for(tiles, std::max<int64_t>(1, (1 << 17) / (tile_rows * depth * width)), [=](int64_t begin, int64_t end) {
    multiply_rows(begin * tile_rows, std::min(rows, end * tile_rows), depth, width, x, packed, bias, y);
  });
}

void add_transposed_product_bfloat16(int64_t rows, int64_t height, int64_t width, const uint16_t* a, const uint16_t* b,
                                     float* sum, float* columns) {
  constexpr int64_t rows_at_once = 1568;  // of both factors: some hundred kilobytes for each task
  const Lines packed(packed_size(std::min(rows, rows_at_once), width));
  uint32_t* panels = packed.get();
  if (columns) std::fill_n(columns, height, 0.0F);
  const int64_t tiles = (height + tile_columns - 1) / tile_columns;
  for (int64_t first = 0; first < rows; first += rows_at_once) {
    const int64_t n = std::min(rows_at_once, rows - first);
    pack(n, width, b + first * width, panels);
    parallel_for(tiles, std::max<int64_t>(1, (1 << 17) / (tile_columns * n * width)), [=](int64_t begin, int64_t end) {
      const Lines memory(std::min(tiles_at_once, end - begin) * packed_columns((n + 1) / 2));
      add_tiles(begin, end, n, height, width, a + first * height, panels, sum, columns, memory.get());
    });
  }
}

#else

void pack_factor(int64_t, int64_t, const float*, uint32_t*) {
  throw Error("products of bfloat16 matrices have no form of their own on this processor");
}
void pack_factor(int64_t, int64_t, const uint16_t*, uint32_t*) {
  throw Error("products of bfloat16 matrices have no form of their own on this processor");
}
void pack_transposed_factor(int64_t, int64_t, const float*, uint32_t*) {
  throw Error("products of bfloat16 matrices have no form of their own on this processor");
}
void multiply_bfloat16(int64_t, int64_t, int64_t, const uint16_t*, const uint32_t*, const float*, uint16_t*) {
  throw Error("products of bfloat16 matrices have no form of their own on this processor");
}
void add_transposed_product_bfloat16(int64_t, int64_t, int64_t, const uint16_t*, const uint16_t*, float*, float*) {
  throw Error("products of bfloat16 matrices have no form of their own on this processor");
}

#endif

}  // namespace espalier
