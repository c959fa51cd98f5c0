#pragma once

#include <cstdint>

namespace espalier {

// x * Phi(x) with the normal distribution function Phi (Hendrycks & Gimpel 2016), and its gradient, to float32's
// precision (4e-7 of Phi). T: float, or uint16_t for the bits of bfloat16. channel_loops::has_lanes() must be true.
template <class T>
void gelu_forward(int64_t n, const T* x, T* y);
// gx = gy * (Phi(x) + x * phi(x)); gx may be gy.
template <class T>
void gelu_backward(int64_t n, const T* x, const T* gy, T* gx);

}  // namespace espalier
