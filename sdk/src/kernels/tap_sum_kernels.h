#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// How many sums are made at once: a vector of AVX-512.
constexpr int64_t tap_lanes = 16;

// Sixteen sums over numbers around a pixel: of filters whose kernels have a few taps each, or of the input channels
// that get a gradient from them. Lane i of the sum is sum_k image[pixel + offsets[k]] * weights[16 k + i].
struct TapSums {
  std::vector<int32_t> offsets;
  std::vector<float> weights;
  // How many offsets at the beginning are those of the next sixteen sums, too, and all of theirs: then both are made
  // together, since reading the image is what takes longest. 0: they are not.
  int64_t shared = 0;
};

// Whether this machine computes them: with AVX-512.
bool has_tap_sums();

// Computes the sums for a row of pixels, the n-th of which is at image + n * step: to[(v * pixels + n) * 16 + lane] of
// the v-th sixteen.
void tap_sums(const float* image, int64_t pixels, int64_t step, const std::vector<TapSums>& sums, float* to);

// Pixels of an image: that in row y and column x begins at data + y * row + x * step.
struct Pixels {
  const float* data;
  int64_t row, step;
};

// Products over the pixels of two images, which the gradient of weights is the sum of: to[i * count_b + j] += the sum
// over height x width pixels of the i-th number of a times the j-th of b, for i < count_a and j < count_b, a multiple
// of 16.
void add_tap_products(int64_t height, int64_t width, const Pixels& a, int64_t count_a, const Pixels& b, int64_t count_b,
                      float* to);

}  // namespace espalier
