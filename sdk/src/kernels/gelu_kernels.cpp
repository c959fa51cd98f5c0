#include "kernels/gelu_kernels.h"

#include <algorithm>

#include "kernels/channel_loops.h"
#include "kernels/number_lanes.h"

namespace espalier {

namespace {

template <int lanes>
struct Gelu {
  using Numbers = NumberLanes<lanes>;
  using V = typename Numbers::V;

  // Phi(x) = (1 + erf(x / sqrt(2))) / 2. The error function is an odd rational one on [-4, 4] and 1 beyond, that of
  // Eigen and XLA; at -4 it is -1 exactly, so that a large x is not multiplied by a rounding.
  static inline V distribution(V x) {
    V z = x * 0.707106781F;
    z = z > 4.0F ? V{} + 4.0F : z;
    z = z < -4.0F ? V{} - 4.0F : z;
    const V s = z * z;
    V p = s * -2.72614225801306e-10F + 2.77068142495902e-08F;
    p = p * s + -2.10102402082508e-06F;
    p = p * s + -5.69250639462346e-05F;
    p = p * s + -7.34990630326855e-04F;
    p = p * s + -2.95459980854025e-03F;
    p = p * s + -1.60960333262415e-02F;
    V q = s * -1.45660718464996e-05F + -2.13374055278905e-04F;
    q = q * s + -1.68282697438203e-03F;
    q = q * s + -7.37332916720468e-03F;
    q = q * s + -1.42647390514189e-02F;
    return z * p / q * 0.5F + 0.5F;
  }
  static inline V value(V x) { return x * distribution(x); }
  static inline V slope(V x) {
    constexpr float density_at_zero = 0.398942280F;  // 1 / sqrt(2 pi)
    return distribution(x) + x * (Numbers::exponential(x * x * -0.5F) * density_at_zero);
  }

  template <class T>
  static inline void forward(int64_t begin, int64_t end, const T* x, T* y) {
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) Numbers::write(y + i, value(Numbers::read(x + i)));
    if (i < end) Numbers::write_some(y + i, value(Numbers::read_some(x + i, end - i)), end - i);
  }
  template <class T>
  static inline void backward(int64_t begin, int64_t end, const T* x, const T* gy, T* gx) {
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) Numbers::write(gx + i, Numbers::read(gy + i) * slope(Numbers::read(x + i)));
    if (i < end) {
      const int64_t n = end - i;
      Numbers::write_some(gx + i, Numbers::read_some(gy + i, n) * slope(Numbers::read_some(x + i, n)), n);
    }
  }
};

constexpr int64_t grain = 1 << 14;

}  // namespace

template <class T>
void gelu_forward(int64_t n, const T* x, T* y) {
  parallel_for(n, grain, [=](int64_t begin, int64_t end) {
    channel_loops::with_lanes(
        [=]<int lanes>() { channel_loops::at_lanes<lanes>([=] { Gelu<lanes>::forward(begin, end, x, y); }); });
  });
}

template <class T>
void gelu_backward(int64_t n, const T* x, const T* gy, T* gx) {
  parallel_for(n, grain, [=](int64_t begin, int64_t end) {
    channel_loops::with_lanes(
        [=]<int lanes>() { channel_loops::at_lanes<lanes>([=] { Gelu<lanes>::backward(begin, end, x, gy, gx); }); });
  });
}

template void gelu_forward(int64_t, const float*, float*);
template void gelu_forward(int64_t, const uint16_t*, uint16_t*);
template void gelu_backward(int64_t, const float*, const float*, float*);
template void gelu_backward(int64_t, const uint16_t*, const uint16_t*, uint16_t*);

}  // namespace espalier
