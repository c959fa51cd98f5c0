#pragma once

#include <cmath>
#include <cstdint>

#include <espalier/host_device.h>

// Nested groups G_1 < G_2 < ... < G_N of the elements of one filter (paper 001, section 3.3), and what follows from the
// sums of their pieces alone: penalty, gradient and proximal operator. Piece m is what G_m has and G_(m-1) has not.
// One formula for the loops on the CPU and the CUDA kernels.
namespace espalier {

inline constexpr int max_groups = 64;  // nested groups of a filter

// Filters of one layer, as the passes see them. All numbers count elements unless they say otherwise.
struct ChainFamily {
  int64_t channels = 0;   // consecutive elements that belong to one position of the kernel
  int64_t stride = 0;     // from one part of a filter to the next (of a convolution with groups)
  int32_t parts = 1;      // how many parts a filter has
  int32_t positions = 1;  // of the kernel
  int32_t groups = 1;     // nested groups, N
  int32_t piece_of = 0;   // in Chains::piece_of, where the positions' pieces begin
  int32_t starts = 0;     // in Chains::starts, where the pieces' places in Chains::order begin
  int32_t factors = 0;    // in Chains::factors, where the groups' factors begin, N for each size of kernel from 0 on
};

// One filter.
struct ChainRow {
  int64_t offset = 0;        // of its first element in the arena of weights
  int64_t scale_at = -1;     // of its batch norm's scale in the arena of weights; -1: none
  int64_t variance_at = -1;  // of its batch norm's running variance in the arena of buffers; -1: no batch norm counts
  double eps = 0;            // that the batch norm adds to the variance
  int32_t family = 0;        // of Chains::families
  int32_t size = 0;          // of its kernel as it is, which tells how many elements its groups have
};

// The tables of all selected filters, for one launch or one loop.
struct Chains {
  const ChainFamily* families = nullptr;
  const ChainRow* rows = nullptr;
  const int32_t* piece_of = nullptr;  // piece of each position, from 0
  const int32_t* order = nullptr;     // positions of each piece, as piece_of is laid out
  const int32_t* starts = nullptr;    // N + 1 places in a family's part of `order`
  const double* factors = nullptr;    // of the norms of the groups
};

// What a pass does with the norms.
struct ChainTask {
  double weight = 0;     // factor of the penalty
  bool largest = false;  // norms are largest sizes (l_inf) rather than l2 norms
  bool squared = false;  // the sum of a filter's norms is squared (33)
  bool measures = true;  // computes the sums of the pieces, and the filters' values
  bool adds = true;      // adds the gradient
  bool kernels = true;   // adds the gradient of the kernels, not only that of the scales of batch norms
};

// What a pass reads and writes. T: float or double.
template <class T>
struct ChainArenas {
  const T* w = nullptr;       // the kernels, laid out as the arena of weights
  T* g = nullptr;             // their gradients
  const T* scales = nullptr;  // the arena of weights, where the scales of batch norms are
  T* scale_gradients = nullptr;
  const T* variances = nullptr;       // the arena of buffers
  double* pieces = nullptr;           // [rows, max_groups]: sums of squares, or largest sizes, of the pieces
  double* sums = nullptr;             // [rows]: the sum of the norms of all groups
  double* wholes = nullptr;           // [rows]: the norm of the last group, which is the whole filter
  const double* of_sums = nullptr;    // [rows]: derivative of the penalty by `sums`; null: the task says it
  const double* of_wholes = nullptr;  // [rows]: derivative by `wholes`; null: 0
  double* values = nullptr;           // [rows]: penalties; null where the filters' penalties are not theirs alone
};

// The factor that a batch norm behind the filter has on all norms: |a| / sigma of (30) and (31).
template <class T>
ESPALIER_HD inline double scale_of(const ChainRow& row, const T* scales, const T* variances) {
  if (row.variance_at < 0) return 1;
  const double a = row.scale_at < 0 ? 1 : static_cast<double>(scales[row.scale_at]);
  return std::abs(a) / std::sqrt(static_cast<double>(variances[row.variance_at]) + row.eps);
}

// Norms of the n groups from the pieces' sums of squares or largest sizes.
ESPALIER_HD inline void group_norms(const double* pieces, int n, bool largest, double* norms) {
  double all = 0;
  for (int m = 0; m < n; ++m) {
    all = largest ? (pieces[m] > all ? pieces[m] : all) : all + pieces[m];
    norms[m] = largest ? all : std::sqrt(all);
  }
}

// What each element of piece m is multiplied by in the gradient of  by_sum * sum_n factor_n norm_n + by_whole *
// factor_N norm_N: groups of norm zero have the gradient zero. With largest sizes it is what the largest element of
// piece m gets, times its sign.
ESPALIER_HD inline void gradient_factors(const double* pieces, const double* norms, const double* factors, int n,
                                         bool largest, double by_sum, double by_whole, double* of_piece) {
  if (!largest) {
    double later = 0;
    for (int m = n - 1; m >= 0; --m) {
      if (norms[m] > 0) later += (by_sum + (m == n - 1 ? by_whole : 0)) * factors[m] / norms[m];
      of_piece[m] = later;
    }
    return;
  }
  for (int m = 0; m < n; ++m) of_piece[m] = 0;
  for (int m = 0; m < n; ++m) {
    if (!(norms[m] > 0)) continue;
    int at = 0;
    while (pieces[at] < norms[m]) ++at;
    of_piece[at] += (by_sum + (m == n - 1 ? by_whole : 0)) * factors[m];
  }
}

// The proximal operator of t * sum_n factor_n ||k(G_n)||: the groups shrink one after the other, the smallest first,
// which is exact for a chain (Jenatton et al. 2011, Proximal methods for hierarchical sparse coding, theorem 1). Sets
// what each element of piece m is multiplied by, and returns the sum of the factors times norms that are left.
ESPALIER_HD inline double proximal_factors(const double* pieces, const double* factors, int n, double t,
                                           double* of_piece) {
  double norms[max_groups];
  double squares = 0;
  for (int m = 0; m < n; ++m) {
    squares += pieces[m];
    norms[m] = std::sqrt(squares);
    const double step = t * factors[m];
    const double keeps = norms[m] > step ? 1 - step / norms[m] : 0;
    of_piece[m] = keeps;
    squares *= keeps * keeps;
  }
  double later = 1, left = 0;
  for (int m = n - 1; m >= 0; --m) {
    later *= of_piece[m];
    of_piece[m] = later;
    left += factors[m] * norms[m] * later;
  }
  return left;
}

// The same of t * (sum_n factor_n ||k(G_n)||)^2: it is the operator of the plain sum with the step 2 t times the sum
// that is left, and since this falls with the step there is one such step.
ESPALIER_HD inline void squared_proximal_factors(const double* pieces, const double* factors, int n, double t,
                                                 double* of_piece) {
  double low = 0, high = 2 * t * proximal_factors(pieces, factors, n, 0, of_piece);
  if (!(high > 0)) return;
  double at_low = high, at_high = 2 * t * proximal_factors(pieces, factors, n, high, of_piece) - high;
  for (int i = 0; i < 200 && high - low > 1e-16 * high; ++i) {
    // Secants between both ends, and every third time halves, so that the interval shrinks in any case.
    double step = i % 3 == 2 ? low + (high - low) / 2 : (low * at_high - high * at_low) / (at_high - at_low);
    if (!(step > low && step < high)) step = low + (high - low) / 2;
    if (!(step > low && step < high)) break;
    const double at = 2 * t * proximal_factors(pieces, factors, n, step, of_piece) - step;
    if (at == 0) return;
    if (at > 0) {
      low = step, at_low = at;
    } else {
      high = step, at_high = at;
    }
  }
  proximal_factors(pieces, factors, n, low + (high - low) / 2, of_piece);
}

}  // namespace espalier
