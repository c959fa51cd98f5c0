#pragma once

#include <cstdint>

#include "espalier/api.h"

namespace espalier {

// The instruction sets that vector loops are compiled for: the levels of the x86-64 psABI (v3 has AVX2 and FMA, v4 has
// AVX-512). On other processors there is only the baseline.
enum class Isa { baseline, v3, v4 };

// Returns the best instruction set of this machine, or the one that the environment variable ESPALIER_ISA names
// (baseline, v3, v4). Throws Error if the machine does not have that one.
ESPALIER_API Isa isa();
// Returns its name: "baseline", "v3" or "v4".
ESPALIER_API const char* isa_name();

namespace detail {

#if defined(__x86_64__)
template <class Body>
[[gnu::target("arch=x86-64-v4"), gnu::flatten, gnu::noinline]] void at_v4(const Body& body) {
  body();
}
template <class Body>
[[gnu::target("arch=x86-64-v3"), gnu::flatten, gnu::noinline]] void at_v3(const Body& body) {
  body();
}
#endif
template <class Body>
[[gnu::flatten, gnu::noinline]] void at_baseline(const Body& body) {
  body();
}

}  // namespace detail

// Calls body(), compiled once for each instruction set, in the form for isa(). Loops in it that are to be vectorised
// say `#pragma omp simd`; what it calls must be inline.
template <class Body>
void with_isa(const Body& body) {
#if defined(__x86_64__)
  const Isa level = isa();
  if (level == Isa::v4) return detail::at_v4(body);
  if (level == Isa::v3) return detail::at_v3(body);
#endif
  detail::at_baseline(body);
}

// Calls body(i) for i in [begin, end), vectorised. The calls must not depend on each other; the body should hold plain
// pointers and numbers, by value.
template <class Body>
void vector_loop(int64_t begin, int64_t end, const Body& body) {
  with_isa([=] {
    const Body local = body;  // in registers: through the pointer, numbers would be loaded again after every store
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) local(i);
  });
}

}  // namespace espalier
