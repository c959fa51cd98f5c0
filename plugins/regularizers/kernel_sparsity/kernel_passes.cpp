#include "kernel_passes.h"

#include <algorithm>
#include <cmath>

#include <espalier/isa.h>
#include <espalier/parallel.h>

namespace espalier {

namespace {

// Partial sums of a piece, as many as the widest vectors hold, so that the result is the same on every instruction set.
constexpr int64_t lanes = 16;

// Calls body(elements of a position, how many, piece) for all positions of a filter, in the order of the memory.
template <class T, class Body>
inline void for_positions(const Chains& c, const ChainRow& row, T* base, const Body& body) {
  const ChainFamily& f = c.families[row.family];
  const int32_t* piece_of = c.piece_of + f.piece_of;
  for (int32_t j = 0; j < f.parts; ++j) {
    T* at = base + row.offset + j * f.stride;
    for (int32_t p = 0; p < f.positions; ++p, at += f.channels) body(at, f.channels, piece_of[p]);
  }
}

// The sums of squares of the pieces, or their largest sizes.
template <class T>
inline void measure(const Chains& c, const ChainRow& row, const T* w, bool largest, double* pieces) {
  const int32_t n = c.families[row.family].groups;
  T partial[max_groups][lanes];
  for (int32_t m = 0; m < n; ++m) {
    for (int64_t j = 0; j < lanes; ++j) partial[m][j] = 0;
  }
  for_positions(c, row, w, [&](const T* x, int64_t count, int32_t piece) {
    T sums[lanes];
    for (int64_t j = 0; j < lanes; ++j) sums[j] = partial[piece][j];
    int64_t i = 0;
    if (largest) {
      for (; i + lanes <= count; i += lanes) {
#pragma omp simd
        for (int64_t j = 0; j < lanes; ++j) {
          const T size = x[i + j] < 0 ? -x[i + j] : x[i + j];
          sums[j] = size > sums[j] ? size : sums[j];
        }
      }
      for (int64_t j = 0; i + j < count; ++j) sums[j] = std::max(sums[j], std::abs(x[i + j]));
    } else {
      for (; i + lanes <= count; i += lanes) {
#pragma omp simd
        for (int64_t j = 0; j < lanes; ++j) sums[j] += x[i + j] * x[i + j];
      }
      for (int64_t j = 0; i + j < count; ++j) sums[j] += x[i + j] * x[i + j];
    }
    for (int64_t j = 0; j < lanes; ++j) partial[piece][j] = sums[j];
  });
  for (int32_t m = 0; m < n; ++m) {
    T all = 0;
    for (int64_t j = 0; j < lanes; ++j) all = largest ? std::max(all, partial[m][j]) : all + partial[m][j];
    pieces[m] = static_cast<double>(all);
  }
}

// The gradient of the largest elements, of which each piece may have one.
template <class T>
inline void add_to_largest(const Chains& c, const ChainRow& row, const T* w, T* g, const double* pieces,
                           double* of_piece) {
  for_positions(c, row, w, [&](const T* x, int64_t count, int32_t piece) {
    if (of_piece[piece] == 0) return;
    const T largest = static_cast<T>(pieces[piece]);
    for (int64_t i = 0; i < count; ++i) {
      if (std::abs(x[i]) != largest) continue;
      g[x + i - w] += static_cast<T>(x[i] < 0 ? -of_piece[piece] : of_piece[piece]);
      of_piece[piece] = 0;  // the first of equal ones stands for all: one subgradient
      return;
    }
  });
}

template <class T>
inline void pass_row(const Chains& c, const ChainArenas<T>& a, const ChainTask& task, int64_t r) {
  const ChainRow& row = c.rows[r];
  const ChainFamily& f = c.families[row.family];
  const double* factors = c.factors + f.factors + static_cast<int64_t>(row.size) * f.groups;
  double local[max_groups], norms[max_groups], of_piece[max_groups];
  double* pieces = a.pieces ? a.pieces + r * max_groups : local;
  if (task.measures) measure(c, row, a.w, task.largest, pieces);
  group_norms(pieces, f.groups, task.largest, norms);
  const double scale = scale_of(row, a.scales, a.variances);
  double sum = 0;
  for (int32_t m = 0; m < f.groups; ++m) sum += factors[m] * norms[m];
  const double whole = factors[f.groups - 1] * norms[f.groups - 1];
  if (a.sums && task.measures) a.sums[r] = scale * sum;
  if (a.wholes && task.measures) a.wholes[r] = scale * whole;
  if (a.values) a.values[r] = task.weight * (task.squared ? scale * sum * scale * sum : scale * sum);
  if (!task.adds) return;
  double by_sum = task.squared ? 2 * task.weight * scale * sum : task.weight, by_whole = 0;
  if (a.of_sums) by_sum = a.of_sums[r];
  if (a.of_wholes) by_whole = a.of_wholes[r];
  if (row.scale_at >= 0 && a.scale_gradients) {
    const auto value = static_cast<double>(a.scales[row.scale_at]);
    const double sign = value > 0 ? 1 : value < 0 ? -1 : 0;
    const double deviation = std::sqrt(static_cast<double>(a.variances[row.variance_at]) + row.eps);
    a.scale_gradients[row.scale_at] += static_cast<T>(sign / deviation * (by_sum * sum + by_whole * whole));
  }
  if (!task.kernels) return;
  gradient_factors(pieces, norms, factors, f.groups, task.largest, by_sum * scale, by_whole * scale, of_piece);
  if (task.largest) return add_to_largest(c, row, a.w, a.g, pieces, of_piece);
  for_positions(c, row, a.w, [&](const T* x, int64_t count, int32_t piece) {
    T* to = a.g + (x - a.w);
    const T by = static_cast<T>(of_piece[piece]);
    if (by == 0) return;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) to[i] += by * x[i];
  });
}

// Cuts the sizes of the elements at the number of their piece.
template <class T>
inline void cut(const Chains& c, const ChainRow& row, T* w, const double* at) {
  for_positions(c, row, w, [&](T* x, int64_t count, int32_t piece) {
    const T most = static_cast<T>(at[piece]);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T v = x[i];
      x[i] = v > most ? most : v < -most ? -most : v;
    }
  });
}

// The proximal operator of the largest size is a cut: where to cut the first n pieces, whose sizes are already cut at
// `at`, so that what goes over sums up to `step` (the projection onto an l1 ball; Michelot 1986, exact after finitely
// many rounds).
template <class T>
inline double place_of_cut(const Chains& c, const ChainRow& row, const T* w, const double* at, int32_t n, double step) {
  double place = -1;
  int64_t before = -1;
  for (int round = 0; round < 1000; ++round) {
    double sums[lanes] = {}, counts[lanes] = {};
    for_positions(c, row, w, [&](const T* x, int64_t count, int32_t piece) {
      if (piece >= n) return;
      const double most = at[piece];
      const auto take = [&](int64_t i, int64_t j) {
        const auto v = static_cast<double>(x[i]);
        double size = v < 0 ? -v : v;
        size = size > most ? most : size;
        sums[j] += size > place ? size : 0;
        counts[j] += size > place ? 1 : 0;
      };
      int64_t i = 0;
      for (; i + lanes <= count; i += lanes) {
#pragma omp simd
        for (int64_t j = 0; j < lanes; ++j) take(i + j, j);
      }
      for (int64_t j = 0; i + j < count; ++j) take(i + j, j);
    });
    double sum = 0, count = 0;
    for (int64_t j = 0; j < lanes; ++j) sum += sums[j], count += counts[j];
    if (round == 0 && sum <= step) return 0;
    const auto now = static_cast<int64_t>(count);
    if (now == before || now == 0) break;
    before = now;
    place = (sum - step) / count;
  }
  return place < 0 ? 0 : place;
}

template <class T>
inline void proximal_row(const Chains& c, T* w, const T* scales, const T* variances, const double* rates,
                         const ChainTask& task, int64_t r) {
  const ChainRow& row = c.rows[r];
  const ChainFamily& f = c.families[row.family];
  const double* factors = c.factors + f.factors + static_cast<int64_t>(row.size) * f.groups;
  const double scale = scale_of(row, scales, variances);
  const double t = rates[row.family] * task.weight * (task.squared ? scale * scale : scale);
  if (!(t > 0)) return;
  if (task.largest) {
    double at[max_groups];
    for (int32_t m = 0; m < f.groups; ++m) at[m] = 1e300;
    for (int32_t n = 1; n <= f.groups; ++n) {
      if (factors[n - 1] == 0) continue;
      const double place = place_of_cut(c, row, static_cast<const T*>(w), at, n, t * factors[n - 1]);
      for (int32_t m = 0; m < n; ++m) at[m] = std::min(at[m], place);
    }
    return cut(c, row, w, at);
  }
  double pieces[max_groups], of_piece[max_groups];
  measure(c, row, static_cast<const T*>(w), false, pieces);
  if (task.squared) {
    for (int32_t m = 0; m < f.groups; ++m) of_piece[m] = 1;
    squared_proximal_factors(pieces, factors, f.groups, t, of_piece);
  } else {
    proximal_factors(pieces, factors, f.groups, t, of_piece);
  }
  for_positions(c, row, w, [&](T* x, int64_t count, int32_t piece) {
    const T by = static_cast<T>(of_piece[piece]);
    if (by == 0) {
      for (int64_t i = 0; i < count; ++i) x[i] = 0;  // not the negative zeros that a product gives
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) x[i] *= by;
    }
  });
}

}  // namespace

template <class T>
void chain_pass(const Chains& chains, const ChainArenas<T>& arenas, const ChainTask& task, int64_t rows,
                int64_t grain) {
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    with_isa([=, c = chains, a = arenas, t = task] {
      for (int64_t r = begin; r < end; ++r) pass_row(c, a, t, r);
    });
  });
}

template <class T>
void chain_proximal_pass(const Chains& chains, T* w, const T* scales, const T* variances, const double* rates,
                         const ChainTask& task, int64_t rows, int64_t grain) {
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    with_isa([=, c = chains, t = task] {
      for (int64_t r = begin; r < end; ++r) proximal_row(c, w, scales, variances, rates, t, r);
    });
  });
}

template <class T>
void chain_scale_pass(const Chains& chains, T* w, const double* by, int64_t rows, int64_t grain) {
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    with_isa([=, c = chains] {
      for (int64_t r = begin; r < end; ++r) {
        for_positions(c, c.rows[r], w, [&](T* x, int64_t count, int32_t) {
          const T factor = static_cast<T>(by[r]);
          if (factor == 0) {
            for (int64_t i = 0; i < count; ++i) x[i] = 0;
          } else {
#pragma omp simd
            for (int64_t i = 0; i < count; ++i) x[i] *= factor;
          }
        });
      }
    });
  });
}

// Row by row, so that neighbours in memory are one vector.
template <class T>
void column_pass(const T* w, T* g, int64_t count, int64_t rows, double weight, double* norms, double* total) {
  std::fill_n(norms, count, 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = w + r * count;
    vector_loop(0, count, [=](int64_t k) { norms[k] += static_cast<double>(row[k]) * static_cast<double>(row[k]); });
  }
  for (int64_t k = 0; k < count; ++k) {
    const double norm = std::sqrt(norms[k]);
    *total += weight * norm;
    norms[k] = norm > 0 ? weight / norm : 0;
  }
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = w + r * count;
    T* gradient = g + r * count;
    vector_loop(0, count, [=](int64_t k) { gradient[k] += static_cast<T>(norms[k]) * row[k]; });
  }
}

template void chain_pass(const Chains&, const ChainArenas<float>&, const ChainTask&, int64_t, int64_t);
template void chain_pass(const Chains&, const ChainArenas<double>&, const ChainTask&, int64_t, int64_t);
template void chain_proximal_pass(const Chains&, float*, const float*, const float*, const double*, const ChainTask&,
                                  int64_t, int64_t);
template void chain_proximal_pass(const Chains&, double*, const double*, const double*, const double*, const ChainTask&,
                                  int64_t, int64_t);
template void chain_scale_pass(const Chains&, float*, const double*, int64_t, int64_t);
template void chain_scale_pass(const Chains&, double*, const double*, int64_t, int64_t);
template void column_pass(const float*, float*, int64_t, int64_t, double, double*, double*);
template void column_pass(const double*, double*, int64_t, int64_t, double, double*, double*);

}  // namespace espalier
