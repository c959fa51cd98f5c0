#include "kernels/bfloat16_kernels.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

bool has_bfloat16_products() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_supports("amx-bf16");
  return has && isa() == Isa::v4;
#else
  return false;
#endif
}

void add_bfloat16(int64_t n, const uint16_t* from, float* to) {
  parallel_for(n, 1 << 16, [=](int64_t begin, int64_t end) {
    // A bfloat16 is the upper half of a float32.
    vector_loop(begin, end, [=](int64_t i) { to[i] += std::bit_cast<float>(static_cast<uint32_t>(from[i]) << 16); });
  });
}

void column_sums_bfloat16(int64_t rows, int64_t columns, const uint16_t* from, float* sums) {
  // Sums are made apart in stretches of rows that do not depend on the number of threads.
  const int64_t per_part = std::max<int64_t>(16, (rows + 31) / 32), parts = (rows + per_part - 1) / per_part;
  std::vector<float> apart(static_cast<size_t>(parts * columns), 0.0F);
  float* all = apart.data();
  parallel_for(parts, std::max<int64_t>(1, (1 << 15) / (per_part * columns)), [=](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      float* to = all + p * columns;
      for (int64_t r = p * per_part; r < std::min(rows, (p + 1) * per_part); ++r) {
        const uint16_t* row = from + r * columns;
        vector_loop(0, columns, [=](int64_t c) { to[c] += std::bit_cast<float>(static_cast<uint32_t>(row[c]) << 16); });
      }
    }
  });
  for (int64_t c = 0; c < columns; ++c) {
    double sum = 0;
    for (int64_t p = 0; p < parts; ++p) sum += static_cast<double>(all[p * columns + c]);
    sums[c] = static_cast<float>(sum);
  }
}

}  // namespace espalier
