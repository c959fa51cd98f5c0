#pragma once

#include <cstdint>

namespace espalier {

// Batch normalisation, and ReLU behind it where `relu`, over rows of channels, [rows, channels]: images in
// channels_last order with a row for each pixel, or features. Activations and their gradients are float32 (A = float)
// or the bits of bfloat16 (A = uint16_t); everything is computed in float32, and rounded once where it is written. Sums
// are taken over blocks of rows, the same for any number of threads.

// Mean and sum of squared deviations of each channel.
template <class A>
void channel_moments(int64_t rows, int64_t channels, const A* x, double* mean, double* squares);

// y = x * scale + shift + added, with ReLU max(0, that), NaN stays NaN; added: null or like x.
template <class A>
void scale_shift(int64_t rows, int64_t channels, const A* x, const float* scale, const float* shift, const A* added,
                 bool relu, A* y);

// With g = gy, with ReLU only where x * scale + shift > 0, else 0: sum = sum of g, product = sum of g * (x - mean).
template <class A>
void gradient_sums(int64_t rows, int64_t channels, const A* gy, const A* x, const float* scale, const float* shift,
                   const float* mean, bool relu, double* sum, double* product);

// gx = g * scale + (x - mean) * a + b, with g as above.
template <class A>
void scale_shift_gradient(int64_t rows, int64_t channels, const A* gy, const A* x, const float* scale,
                          const float* shift, const float* mean, const float* a, const float* b, bool relu, A* gx);

// The sums where something was added before ReLU: g = gy where y > 0, else 0, is written too.
template <class A>
void added_relu_gradient_sums(int64_t rows, int64_t channels, const A* gy, const A* y, const A* x, const float* mean,
                              A* g, double* sum, double* product);

}  // namespace espalier
