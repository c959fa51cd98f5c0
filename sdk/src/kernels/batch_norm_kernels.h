#pragma once

#include <cstdint>

namespace espalier {

// Batch normalisation, and ReLU behind it where `relu`, over float32 rows of channels, [rows, channels]: images in
// channels_last order with a row for each pixel, or features. Sums are taken over blocks of rows, the same for any
// number of threads.

// Mean and sum of squared deviations of each channel.
void channel_moments(int64_t rows, int64_t channels, const float* x, double* mean, double* squares);

// y = x * scale + shift + added, with ReLU max(0, that), NaN stays NaN; added: null or like x.
void scale_shift(int64_t rows, int64_t channels, const float* x, const float* scale, const float* shift,
                 const float* added, bool relu, float* y);

// With g = gy, with ReLU only where x * scale + shift > 0, else 0: sum = sum of g, product = sum of g * (x - mean).
void gradient_sums(int64_t rows, int64_t channels, const float* gy, const float* x, const float* scale,
                   const float* shift, const float* mean, bool relu, double* sum, double* product);

// gx = g * scale + (x - mean) * a + b, with g as above.
void scale_shift_gradient(int64_t rows, int64_t channels, const float* gy, const float* x, const float* scale,
                          const float* shift, const float* mean, const float* a, const float* b, bool relu, float* gx);

// The sums where something was added before ReLU: g = gy where y > 0, else 0, is written too.
void added_relu_gradient_sums(int64_t rows, int64_t channels, const float* gy, const float* y, const float* x,
                              const float* mean, float* g, double* sum, double* product);

}  // namespace espalier
