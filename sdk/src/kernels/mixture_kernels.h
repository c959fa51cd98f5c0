#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// Weighted sums of float32 rows of channels, [rows, channels] (images in channels_last order with a row for each
// pixel), whose terms may be batch normalised on the way: one pass instead of one for each product, sum and norm. Sums
// are taken over blocks of rows, the same for any number of threads.

// A term of a sum: x * scale, with a scale for each channel.
struct ScaledTerm {
  const float* x;
  const float* scale;
};

// y = the sum of the terms + shift, a number for each channel.
void sum_of_terms(int64_t rows, int64_t channels, const std::vector<ScaledTerm>& terms, const float* shift, float* y);

// What the gradient of a term begins with.
struct CenteredTerm {
  const float* x;
  const float* mean;  // of each channel
  double* products;   // [channels]: becomes the sum over the rows of gy * (x - mean)
};

// sum [channels] = the sum of gy over the rows, and the products of each term.
void term_products(int64_t rows, int64_t channels, const float* gy, const std::vector<CenteredTerm>& terms,
                   double* sum);

// The gradient of a term: gx = gy * scale + (x - mean) * slope + offset, each with a number for each channel. slope is
// null where gx = gy * scale is all.
struct TermGradient {
  float* gx;
  const float* scale;
  const float* x = nullptr;
  const float* mean = nullptr;
  const float* slope = nullptr;
  const float* offset = nullptr;
};

// Writes the gradient of each term.
void term_gradients(int64_t rows, int64_t channels, const float* gy, const std::vector<TermGradient>& terms);

}  // namespace espalier
