#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/channel_loops.h"

namespace espalier {

// Vectors of float32 that come from float32 or bfloat16 memory (uint16_t: the bits of a bfloat16) and go there. For
// kernels that are compiled for each length of vectors (channel_loops::with_lanes), or for sixteen numbers everywhere.
template <int lanes>
struct NumberLanes {
  using V = channel_loops::Lanes<lanes>;
  using Bits = channel_loops::IntegerLanes<lanes>;

  template <class T>
  static inline V read(const T* p) {
    return channel_loops::load<V>(p);
  }
  template <class T>
  static inline void write(T* p, V v) {
    channel_loops::store(p, v);
  }
  // The first n numbers of a vector, zeros behind them.
  template <class T>
  static inline V read_some(const T* p, int64_t n) {
    T some[lanes] = {};
    std::memcpy(some, p, static_cast<size_t>(n) * sizeof(T));
    return read(some);
  }
  template <class T>
  static inline void write_some(T* p, V v, int64_t n) {
    T some[lanes];
    write(some, v);
    std::memcpy(p, some, static_cast<size_t>(n) * sizeof(T));
  }

  // e^x for x <= 0 to float32's precision, 0 below -87; by the polynomial of Cephes' expf.
  static inline V exponential(V x) {
    constexpr float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer, which stands in the last bits
    const V shifted = x * 1.44269504F + magic;
    const V n = shifted - magic;
    V r = x - n * 0.693359375F;
    r = r + n * 2.12194440e-4F;
    V p = r * 1.9875691500e-4F + 1.3981999507e-3F;
    p = p * r + 8.3334519073e-3F;
    p = p * r + 4.1665795894e-2F;
    p = p * r + 1.6666665459e-1F;
    p = p * r + 5.0000001201e-1F;
    p = p * (r * r) + r + 1.0F;
    const V power = reinterpret_cast<V>((reinterpret_cast<Bits>(shifted) - 0x4B400000 + 127) << 23);
    return x < -87.0F ? V{} : p * power;
  }

  static inline float sum_of(V v) {
    float s = 0;
    for (int64_t i = 0; i < lanes; ++i) s += v[i];
    return s;
  }
};

}  // namespace espalier
