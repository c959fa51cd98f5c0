#pragma once

#include <cstdint>

namespace espalier {

// Layer norm of rows of channels, float32 or bfloat16 (uint16_t: its bits), with statistics and sums in float32. An
// element's result depends neither on the instruction set nor on the number of threads.

// y = (x - mean) * deviation * weight + bias, where mean and deviation = 1 / sqrt(variance + eps) are written, [rows]
// each. weight, bias: [channels], or null for 1 and 0.
template <class T>
void layer_norm_forward(int64_t rows, int64_t channels, const T* x, const float* weight, const float* bias, double eps,
                        T* y, float* mean, float* deviation);

// gx, where it is not null, and the gradients of weight and bias, where gw is not null: written whole.
template <class T>
void layer_norm_backward(int64_t rows, int64_t channels, const T* x, const T* gy, const float* weight,
                         const float* mean, const float* deviation, T* gx, float* gw, float* gb);

}  // namespace espalier
