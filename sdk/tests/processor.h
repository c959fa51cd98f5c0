#pragma once

#include "espalier/isa.h"

namespace espalier {

// Whether the SDK multiplies bfloat16 matrices by itself, as kernels/bfloat16_kernels.h has it. Elsewhere LibTorch
// does, and the result may depend on the number of threads.
inline bool has_bfloat16_products() {
#if defined(__x86_64__)
  return isa() == Isa::v4 && __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_supports("amx-bf16");
#else
  return false;
#endif
}

}  // namespace espalier
