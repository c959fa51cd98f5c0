#pragma once

#include <cstdint>

namespace espalier {

// to[i] += from[i], the bits of a bfloat16
void add_bfloat16(int64_t n, const uint16_t* from, float* to);

}  // namespace espalier
