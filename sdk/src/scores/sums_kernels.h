#pragma once

#include <cstdint>

namespace espalier {

// Writes the sum of the absolute values (power 1) or of the squares (power 2) of each of `rows` consecutive rows of
// `size` elements, in float64. The same bytes on every instruction set and for every number of threads.
void row_sums(const float* values, int64_t rows, int64_t size, int power, double* sums);
void row_sums(const double* values, int64_t rows, int64_t size, int power, double* sums);

}  // namespace espalier
