#pragma once

#include <cstdint>

#include <espalier/isa.h>
#include <espalier/parallel.h>
#include <espalier/reduce.h>

#include "lbi.h"

namespace espalier {

// Returns the share of n elements of Z whose sizes are above lambda.
template <class T>
inline T share_beyond(const T* z, int64_t n, T lambda) {
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; ++i) count += z[i] > lambda || z[i] < -lambda;
  return static_cast<T>(count) / static_cast<T>(n);
}

// One step of one row; for bodies of with_isa().
template <class T>
inline void step_row(const LbiRow& row, const LbiArenas<T>& arenas, const LbiFormula<T>& given, T lr) {
  const LbiFormula<T> formula = given;  // in registers
  T* w = arenas.w + row.offset;
  const T* g = arenas.g + row.offset;
  T* m = arenas.m + row.offset;
  T* z = arenas.z + row.offset;
  const int64_t n = row.size;
  const T decay = static_cast<T>(row.decay);
  switch (row.kind) {
    case LbiRow::plain:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) formula.plain(w[i], g[i], m[i], lr, decay);
      return;
    case LbiRow::group: {
      const T scale = arenas.scale[row.state];
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) formula.coupled(w[i], g[i], m[i], z[i], scale * z[i], lr, decay);
      const T next = formula.scale(sum_of_squares(z, n), n);
      arenas.scale[row.state] = next;
      arenas.support[row.state] = next > 0;
      return;
    }
    case LbiRow::elements:
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) formula.coupled(w[i], g[i], m[i], z[i], formula.threshold(z[i]), lr, decay);
      arenas.support[row.state] = share_beyond(z, n, formula.lambda);
      return;
  }
}

// One step of `count` rows on the CPU. Each thread gets `grain` rows or more.
template <class T>
void lbi_pass(const LbiRow* rows, int64_t count, int64_t grain, double learning_rate, const LbiArenas<T>& arenas,
              const LbiFormula<T>& formula) {
  const T lr = static_cast<T>(learning_rate);
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    with_isa([=, a = arenas, f = formula] {
      for (int64_t r = begin; r < end; ++r) step_row(rows[r], a, f, lr);
    });
  });
}

}  // namespace espalier
