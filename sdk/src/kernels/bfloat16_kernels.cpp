#include "kernels/bfloat16_kernels.h"

#include <bit>

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

void add_bfloat16(int64_t n, const uint16_t* from, float* to) {
  parallel_for(n, 1 << 16, [=](int64_t begin, int64_t end) {
    // A bfloat16 is the upper half of a float32.
    vector_loop(begin, end, [=](int64_t i) { to[i] += std::bit_cast<float>(static_cast<uint32_t>(from[i]) << 16); });
  });
}

}  // namespace espalier
