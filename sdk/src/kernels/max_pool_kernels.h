#pragma once

#include <cstdint>

namespace espalier {

// Max pooling of float32 images in channels_last order, [batch, height, width, channels].
struct PoolGeometry {
  int64_t batch, height, width, channels;
  int64_t out_height, out_width;
  int64_t kernel, stride, padding;  // kernel: 2 or 3
};

// y[...] = the largest value of the window, or 0 where `relu` and that is larger: ReLU and max pooling commute.
// which: the window's position of that value, row by row; -1 where ReLU cut it off. NaN stays NaN.
void max_pool_forward(const PoolGeometry& g, bool relu, const float* x, float* y, int32_t* which);

// gx: written whole.
void max_pool_backward(const PoolGeometry& g, const float* gy, const int32_t* which, float* gx);

}  // namespace espalier
