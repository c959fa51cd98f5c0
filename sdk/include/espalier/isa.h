#pragma once

#include <cstdint>

#include "espalier/api.h"

namespace espalier {

// Instruction sets that vector loops are compiled for: the levels of the x86-64 psABI (v3: AVX2 and FMA, v4: AVX-512);
// elsewhere there is the baseline alone.
enum class Isa { baseline, v3, v4 };

// The best one of this machine, or the one that the variable ESPALIER_ISA names (baseline, v3, v4). Throws Error where
// the machine does not have that one.
ESPALIER_API Isa isa();
ESPALIER_API const char* isa_name();

namespace detail {

#if defined(__x86_64__)
#define ESPALIER_VECTOR_LOOP(name, level)                                                                      \
  template <class Body>                                                                                        \
  [[gnu::target("arch=" level), gnu::flatten, gnu::noinline]] void name(int64_t begin, int64_t end, Body body) { \
    _Pragma("omp simd") for (int64_t i = begin; i < end; ++i) body(i);                                         \
  }
ESPALIER_VECTOR_LOOP(loop_v4, "x86-64-v4")
ESPALIER_VECTOR_LOOP(loop_v3, "x86-64-v3")
#undef ESPALIER_VECTOR_LOOP
#endif

template <class Body>
[[gnu::flatten, gnu::noinline]] void loop_baseline(int64_t begin, int64_t end, Body body) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) body(i);
}

}  // namespace detail

// Calls body(i) for i in [begin, end), vectorised for isa(). The calls must not depend on each other; the body is
// copied and should hold plain pointers and numbers.
template <class Body>
void vector_loop(int64_t begin, int64_t end, const Body& body) {
#if defined(__x86_64__)
  const Isa level = isa();
  if (level == Isa::v4) return detail::loop_v4(begin, end, body);
  if (level == Isa::v3) return detail::loop_v3(begin, end, body);
#endif
  detail::loop_baseline(begin, end, body);
}

}  // namespace espalier
