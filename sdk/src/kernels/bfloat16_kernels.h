#pragma once

#include <cstdint>

namespace espalier {

// Whether this processor multiplies bfloat16 numbers in vectors (AVX512-BF16), ESPALIER_ISA allows it, and oneDNN has
// nothing better: with AMX its products are several times as fast.
bool has_bfloat16_products();

// to[i] += from[i], the bits of a bfloat16
void add_bfloat16(int64_t n, const uint16_t* from, float* to);

// sums[c] = the sum of column c of [rows, columns], the bits of bfloat16, in float32
void column_sums_bfloat16(int64_t rows, int64_t columns, const uint16_t* from, float* sums);

}  // namespace espalier
