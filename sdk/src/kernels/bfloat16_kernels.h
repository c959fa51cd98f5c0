#pragma once

#include <cstdint>

namespace espalier {

// to[i] += from[i], the bits of a bfloat16
void add_bfloat16(int64_t n, const uint16_t* from, float* to);

// sums[c] = the sum of column c of [rows, columns], the bits of bfloat16, in float32
void column_sums_bfloat16(int64_t rows, int64_t columns, const uint16_t* from, float* sums);

}  // namespace espalier
