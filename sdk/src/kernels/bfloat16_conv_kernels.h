#pragma once

#include <cstdint>

// Convolutions of 3x3 kernels of bfloat16 numbers, whose bits are uint16_t, by AVX-512's products of them, which add in
// float32 (has_bfloat16_products() in bfloat16_kernels.h). Sums are taken in an order that does not depend on the
// number of threads.
namespace espalier {

// Dilation 1, one group. Images are [batch, height, width, channels] in memory, with a row of channels for each pixel;
// weights are [filters, 3, 3, channels].
struct Bfloat16ConvGeometry {
  int64_t batch = 0, height = 0, width = 0;  // of the input
  int64_t channels = 0, filters = 0;
  int64_t stride = 1;   // 1 or 2
  int64_t padding = 0;  // on every side

  int64_t out_height() const { return (height + 2 * padding - 3) / stride + 1; }
  int64_t out_width() const { return (width + 2 * padding - 3) / stride + 1; }
};

// y [batch, out_height, out_width, filters] of x. bias: [filters], or null.
void bfloat16_convolution(const Bfloat16ConvGeometry& g, const uint16_t* x, const uint16_t* weight, const float* bias,
                          uint16_t* y);
// gx [batch, height, width, channels]: the gradient of x, from that of y. With stride 1 and a padding of at most 2.
void bfloat16_input_gradient(const Bfloat16ConvGeometry& g, const uint16_t* gy, const uint16_t* weight, uint16_t* gx);
// gw [filters, 3, 3, channels]: the gradient of the weight, from that of the output. Added to what is there where
// `add`.
void bfloat16_weight_gradient(const Bfloat16ConvGeometry& g, const uint16_t* x, const uint16_t* gy, bool add,
                              float* gw);

}  // namespace espalier
