#pragma once

#include <cstdint>

namespace espalier {

// Products of bfloat16 matrices (uint16_t: their bits, row by row) that add in float32, by the instructions of
// AVX512-BF16 (has_bfloat16_products() in bfloat16_kernels.h). Each number is a sum in the order of its terms, whatever
// the number of threads.

// How many numbers packed() holds of a right factor [depth, width]: pairs of rows side by side in panels of 32 columns.
int64_t packed_size(int64_t depth, int64_t width);
// Packs the right factor [depth, width], float32 that is rounded or bfloat16.
void pack_factor(int64_t depth, int64_t width, const float* from, uint32_t* to);
void pack_factor(int64_t depth, int64_t width, const uint16_t* from, uint32_t* to);
// Packs the right factor [depth, width] from its transpose [width, depth].
void pack_transposed_factor(int64_t depth, int64_t width, const float* from, uint32_t* to);

// y [rows, width] = x [rows, depth] times a packed factor, plus bias [width] where it is not null.
void multiply_bfloat16(int64_t rows, int64_t depth, int64_t width, const uint16_t* x, const uint32_t* packed,
                       const float* bias, uint16_t* y);

// sum [height, width] += the transpose of a [rows, height] times b [rows, width]. columns [height], where it is not
// null: the sum of each column of a.
void add_transposed_product_bfloat16(int64_t rows, int64_t height, int64_t width, const uint16_t* a, const uint16_t* b,
                                     float* sum, float* columns);

}  // namespace espalier
