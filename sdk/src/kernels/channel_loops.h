#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "espalier/isa.h"
#include "espalier/parallel.h"

// How the files beside this one loop over float32 rows of channels, [rows, channels]: images in channels_last order
// with a row for each pixel, or features. Everything is inline, so that it is compiled for each instruction set.
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

// The same code for sixteen channels and for those that are left over.
template <class T>
inline T load(const float* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(float* p, const T& v) {
  std::memcpy(p, &v, sizeof v);
}
// v where pass > 0 or is no number, else 0.
template <class T>
inline T relu_of(const T& pass, const T& v) {
  return pass <= 0 ? T{} : v;
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
