#pragma once

#include <cstdint>

// Convolutions of 3x3 kernels by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016, section 4.1): each tile
// of 2x2 outputs takes 16 multiplications of a channel and a filter instead of 36. In float32 its rounding is about
// that of the direct sum. All three are sums of products in an order that depends neither on the number of threads nor
// on the length of vectors.
namespace espalier {

// Stride 1, dilation 1, one group. Images are [batch, height, width, channels] in memory, with a row of channels for
// each pixel; weights are [filters, 3, 3, channels].
struct WinogradGeometry {
  int64_t batch = 0, height = 0, width = 0;  // of the input
  int64_t channels = 0, filters = 0;
  int64_t padding = 0;  // 0, 1 or 2, on every side

  int64_t out_height() const { return height + 2 * padding - 2; }
  int64_t out_width() const { return width + 2 * padding - 2; }
};

// Whether this processor has them: AVX2 or AVX-512, and ESPALIER_ISA allows one.
bool has_winograd();

// What follows the sum of an output: y = relu(sum * scale + shift + added).
struct AfterSum {
  const float* scale = nullptr;  // [filters]; null: 1
  const float* shift = nullptr;  // [filters]; null: 0
  const float* added = nullptr;  // like y; null: 0
  bool relu = false;
};

// y [batch, out_height, out_width, filters] of x.
void winograd_forward(const WinogradGeometry& g, const float* x, const float* weight, const AfterSum& after, float* y);
// gx [batch, height, width, channels]: the gradient of x, from that of y.
void winograd_input_gradient(const WinogradGeometry& g, const float* gy, const float* weight, float* gx);
// gw [filters, 3, 3, channels]: the gradient of the weight. Added to what is there where `add`.
void winograd_weight_gradient(const WinogradGeometry& g, const float* x, const float* gy, bool add, float* gw);

}  // namespace espalier
