#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "espalier/isa.h"
#include "espalier/parallel.h"

// How the files beside this one loop over rows of channels, [rows, channels]: images in channels_last order with a row
// for each pixel, or features. They are float32 or bfloat16, whose bits are uint16_t here; what is computed is float32.
// Everything is inline, so that it is compiled for each instruction set.
namespace espalier::channel_loops {

// Rows of a block: what stays in the nearest caches while it is read twice.
inline int64_t block_rows(int64_t channels) {
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

// Sixteen channels at once: a vector of AVX-512, or so many narrower ones. An element's result does not depend on
// which.
template <int64_t lanes>
using Lanes __attribute__((vector_size(lanes * sizeof(float)))) = float;
template <int64_t lanes>
using IntegerLanes __attribute__((vector_size(lanes * sizeof(int32_t)))) = int32_t;
template <int64_t lanes>
using HalfLanes __attribute__((vector_size(lanes * sizeof(uint16_t)))) = uint16_t;

// The bits of as many numbers as T has, which is Lanes or float.
template <class T>
struct BitsOf {
  using Whole = IntegerLanes<sizeof(T) / sizeof(float)>;
  using Half = HalfLanes<sizeof(T) / sizeof(float)>;
};
template <>
struct BitsOf<float> {
  using Whole = int32_t;
  using Half = uint16_t;
};

// Of bfloat16 numbers, which are the upper halves of float32 ones.
template <class T>
inline T widened(typename BitsOf<T>::Half h) {
  using Whole = typename BitsOf<T>::Whole;
  if constexpr (std::is_same_v<T, float>) {
    return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
  } else {
    return reinterpret_cast<T>(__builtin_convertvector(h, Whole) << 16);
  }
}
// To the nearest bfloat16, the even one of two; NaN stays NaN.
template <class T>
inline typename BitsOf<T>::Half narrowed(T v) {
  using Whole = typename BitsOf<T>::Whole;
  using Half = typename BitsOf<T>::Half;
  constexpr int32_t nan = 0x7FC0;
  if constexpr (std::is_same_v<T, float>) {
    const auto b = std::bit_cast<uint32_t>(v);
    return static_cast<Half>(v == v ? (b + 0x7FFFU + ((b >> 16) & 1U)) >> 16 : nan);
  } else {
    const Whole b = reinterpret_cast<Whole>(v);
    const Whole rounded = (b + 0x7FFF + ((b >> 16) & 1)) >> 16;
    return __builtin_convertvector(v == v ? rounded : Whole{} + nan, Half);
  }
}

// The same code for sixteen channels and for those that are left over.
template <class T>
inline T load(const float* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline T load(const uint16_t* p) {
  typename BitsOf<T>::Half h;
  std::memcpy(&h, p, sizeof h);
  return widened<T>(h);
}
template <class T>
inline void store(float* p, const T& v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
inline void store(uint16_t* p, const T& v) {
  const typename BitsOf<T>::Half h = narrowed<T>(v);
  std::memcpy(p, &h, sizeof h);
}
// v where pass > 0 or is no number, else 0.
template <class T>
inline T relu_of(const T& pass, const T& v) {
  return pass <= 0 ? T{} : v;
}

// Whether there are vectors of sixteen numbers (AVX-512) or eight (AVX2).
inline bool has_lanes() {
#if defined(__x86_64__)
  return isa() != Isa::baseline;
#else
  return false;
#endif
}

// body<lanes>() for the length of this machine's vectors; has_lanes() must be true.
template <class Body>
inline void with_lanes(const Body& body) {
  isa() == Isa::v4 ? body.template operator()<16>() : body.template operator()<8>();
}
// body(), compiled for vectors of this length.
template <int lanes, class Body>
inline void at_lanes(const Body& body) {
#if defined(__x86_64__)
  lanes == 16 ? detail::at_v4(body) : detail::at_v3(body);
#else
  body();
#endif
}

// As many rows of `from` as a vector has numbers, sixteen or eight, as columns of `to`. Both may be the same.
template <int lanes>
inline void transpose_block(const float* from, int64_t from_row, float* to, int64_t to_row) {
  using V = Lanes<lanes>;
  IntegerLanes<lanes> low, high;
  for (int i = 0; i < lanes / 2; ++i) {
    low[2 * i] = i;
    low[2 * i + 1] = lanes + i;
    high[2 * i] = lanes / 2 + i;
    high[2 * i + 1] = lanes + lanes / 2 + i;
  }
  V a[lanes], b[lanes];
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) a[i] = load<V>(from + i * from_row);
  // Perfect shuffles of the rows: four of sixteen, three of eight.
  const auto shuffle = [=](const V* x, V* y) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < lanes / 2; ++i) {
      y[2 * i] = __builtin_shuffle(x[i], x[i + lanes / 2], low);
      y[2 * i + 1] = __builtin_shuffle(x[i], x[i + lanes / 2], high);
    }
  };
  shuffle(a, b);
  shuffle(b, a);
  shuffle(a, b);
  if (lanes == 16) shuffle(b, a);
  const V* last = lanes == 16 ? a : b;
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes; ++i) store(to + i * to_row, last[i]);
}

// body(T, c): for each sixteen channels from c on with T = Lanes<16>; those left over, 12 say, in halves: 8 and 4.
template <class Body>
inline void for_channels(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) body(Lanes<16>{}, c);
  const auto half = [&]<class T>(T zero, int64_t lanes) {
    if (c + lanes > channels) return;
    body(zero, c);
    c += lanes;
  };
  half(Lanes<8>{}, 8);
  half(Lanes<4>{}, 4);
  half(Lanes<2>{}, 2);
  half(float{}, 1);
}

}  // namespace espalier::channel_loops
