#include <espalier/cuda_stream.h>

#include "kernel_sparsity_cuda.h"

namespace espalier {

namespace {

constexpr int threads = 128;

struct Found {
  double value;
  int64_t at;  // of the element that has it
};

__device__ Found merged(Found a, Found b, bool largest) {
  if (!largest) return {a.value + b.value, 0};
  // Of equal ones the first.
  return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

// Of all threads' values their sum, or the largest, for every thread.
__device__ Found of_block(Found mine, bool largest, Found* shared) {
  shared[threadIdx.x] = mine;
  __syncthreads();
  for (int half = threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] = merged(shared[threadIdx.x], shared[threadIdx.x + half], largest);
    __syncthreads();
  }
  const Found all = shared[0];
  __syncthreads();
  return all;
}

// Calls body(place in the arena) for the elements of a piece, those of this thread.
template <class Body>
__device__ void for_piece(const Chains& c, const ChainRow& row, const ChainFamily& f, int m, const Body& body) {
  const int32_t begin = c.starts[f.starts + m], end = c.starts[f.starts + m + 1];
  const int64_t of_part = static_cast<int64_t>(end - begin) * f.channels, count = of_part * f.parts;
  for (int64_t i = threadIdx.x; i < count; i += threads) {
    const int64_t part = i / of_part, within = i % of_part;
    const int64_t position = c.order[f.piece_of + begin + within / f.channels];
    body(row.offset + part * f.stride + position * f.channels + within % f.channels);
  }
}

template <class T>
__device__ void measure(const Chains& c, const ChainRow& row, const ChainFamily& f, const T* w, bool largest,
                        double* pieces, int64_t* places, Found* shared) {
  for (int m = 0; m < f.groups; ++m) {
    Found mine{0, INT64_MAX};
    for_piece(c, row, f, m, [&](int64_t at) {
      const auto v = static_cast<double>(w[at]);
      mine = merged(mine, {largest ? fabs(v) : v * v, at}, largest);
    });
    const Found all = of_block(mine, largest, shared);
    if (threadIdx.x == 0) {
      pieces[m] = all.value;
      if (places) places[m] = all.at;
    }
  }
  __syncthreads();
}

template <class T>
__global__ void chains(Chains c, ChainArenas<T> a, ChainTask task) {
  __shared__ Found shared[threads];
  __shared__ double pieces[max_groups], norms[max_groups], of_piece[max_groups];
  __shared__ int64_t places[max_groups];
  const int64_t r = blockIdx.x;
  const ChainRow row = c.rows[r];
  const ChainFamily f = c.families[row.family];
  // Largest elements are looked for again, because their places are not kept.
  if (task.measures || task.largest) {
    measure(c, row, f, a.w, task.largest, pieces, places, shared);
  } else {
    for (int m = threadIdx.x; m < f.groups; m += threads) pieces[m] = a.pieces[r * max_groups + m];
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    const double* factors = c.factors + f.factors + static_cast<int64_t>(row.size) * f.groups;
    group_norms(pieces, f.groups, task.largest, norms);
    const double scale = scale_of(row, a.scales, a.variances);
    double sum = 0;
    for (int m = 0; m < f.groups; ++m) sum += factors[m] * norms[m];
    const double whole = factors[f.groups - 1] * norms[f.groups - 1];
    if (task.measures) {
      if (a.pieces) {
        for (int m = 0; m < f.groups; ++m) a.pieces[r * max_groups + m] = pieces[m];
      }
      if (a.sums) a.sums[r] = scale * sum;
      if (a.wholes) a.wholes[r] = scale * whole;
    }
    if (a.values) a.values[r] = task.weight * (task.squared ? scale * sum * scale * sum : scale * sum);
    if (task.adds) {
      double by_sum = task.squared ? 2 * task.weight * scale * sum : task.weight, by_whole = 0;
      if (a.of_sums) by_sum = a.of_sums[r];
      if (a.of_wholes) by_whole = a.of_wholes[r];
      if (row.scale_at >= 0 && a.scale_gradients) {
        const auto value = static_cast<double>(a.scales[row.scale_at]);
        const double sign = value > 0 ? 1 : value < 0 ? -1 : 0;
        const double deviation = sqrt(static_cast<double>(a.variances[row.variance_at]) + row.eps);
        a.scale_gradients[row.scale_at] += static_cast<T>(sign / deviation * (by_sum * sum + by_whole * whole));
      }
      gradient_factors(pieces, norms, factors, f.groups, task.largest, by_sum * scale, by_whole * scale, of_piece);
    }
  }
  __syncthreads();
  if (!task.adds || !task.kernels) return;
  for (int m = 0; m < f.groups; ++m) {
    if (of_piece[m] == 0) continue;
    if (task.largest) {
      if (threadIdx.x == 0) a.g[places[m]] += static_cast<T>(a.w[places[m]] < 0 ? -of_piece[m] : of_piece[m]);
      continue;
    }
    const T by = static_cast<T>(of_piece[m]);
    for_piece(c, row, f, m, [&](int64_t at) { a.g[at] += by * a.w[at]; });
  }
}

// Where to cut the first n pieces; see place_of_cut() of the CPU.
template <class T>
__device__ double place_of_cut(const Chains& c, const ChainRow& row, const ChainFamily& f, const T* w,
                               const double* cuts, int n, double step, Found* shared) {
  double place = -1, before = -1;
  for (int round = 0; round < 1000; ++round) {
    Found sum{0, 0}, count{0, 0};
    for (int m = 0; m < n; ++m) {
      for_piece(c, row, f, m, [&](int64_t at) {
        const double size = fmin(fabs(static_cast<double>(w[at])), cuts[m]);
        if (size > place) sum.value += size, count.value += 1;
      });
    }
    sum = of_block(sum, false, shared);
    count = of_block(count, false, shared);
    if (round == 0 && sum.value <= step) return 0;
    if (count.value == before || count.value == 0) break;
    before = count.value;
    place = (sum.value - step) / count.value;
  }
  return place < 0 ? 0 : place;
}

template <class T>
__global__ void chain_proximal(Chains c, T* w, const T* scales, const T* variances, const double* rates,
                               ChainTask task) {
  __shared__ Found shared[threads];
  __shared__ double pieces[max_groups], of_piece[max_groups];
  const ChainRow row = c.rows[blockIdx.x];
  const ChainFamily f = c.families[row.family];
  const double* factors = c.factors + f.factors + static_cast<int64_t>(row.size) * f.groups;
  const double scale = scale_of(row, scales, variances);
  const double t = rates[row.family] * task.weight * (task.squared ? scale * scale : scale);
  if (!(t > 0)) return;
  if (task.largest) {
    for (int m = threadIdx.x; m < f.groups; m += threads) of_piece[m] = 1e300;
    __syncthreads();
    for (int n = 1; n <= f.groups; ++n) {
      if (factors[n - 1] == 0) continue;
      const double place = place_of_cut(c, row, f, w, of_piece, n, t * factors[n - 1], shared);
      if (threadIdx.x < n) of_piece[threadIdx.x] = fmin(of_piece[threadIdx.x], place);
      __syncthreads();
    }
    for (int m = 0; m < f.groups; ++m) {
      const T most = static_cast<T>(of_piece[m]);
      for_piece(c, row, f, m, [&](int64_t at) { w[at] = w[at] > most ? most : w[at] < -most ? -most : w[at]; });
    }
    return;
  }
  measure(c, row, f, w, false, pieces, nullptr, shared);
  if (threadIdx.x == 0) {
    for (int m = 0; m < f.groups; ++m) of_piece[m] = 1;
    if (task.squared) {
      squared_proximal_factors(pieces, factors, f.groups, t, of_piece);
    } else {
      proximal_factors(pieces, factors, f.groups, t, of_piece);
    }
  }
  __syncthreads();
  for (int m = 0; m < f.groups; ++m) {
    const T by = static_cast<T>(of_piece[m]);
    for_piece(c, row, f, m, [&](int64_t at) { w[at] = by == 0 ? T(0) : w[at] * by; });
  }
}

template <class T>
__global__ void chain_scale(Chains c, T* w, const double* by) {
  const ChainRow row = c.rows[blockIdx.x];
  const ChainFamily f = c.families[row.family];
  const T factor = static_cast<T>(by[blockIdx.x]);
  for (int m = 0; m < f.groups; ++m)
    for_piece(c, row, f, m, [&](int64_t at) { w[at] = factor == 0 ? T(0) : w[at] * factor; });
}

// One block for each column.
template <class T>
__global__ void columns(const T* w, T* g, int64_t count, int64_t rows, double weight, double* total) {
  __shared__ Found shared[threads];
  const int64_t k = blockIdx.x;
  Found mine{0, 0};
  for (int64_t r = threadIdx.x; r < rows; r += threads) {
    const auto v = static_cast<double>(w[r * count + k]);
    mine.value += v * v;
  }
  const double norm = sqrt(of_block(mine, false, shared).value);
  if (norm == 0) return;
  const T scale = static_cast<T>(weight / norm);
  for (int64_t r = threadIdx.x; r < rows; r += threads) g[r * count + k] += scale * w[r * count + k];
  if (threadIdx.x == 0) atomicAdd(total, weight * norm);
}

}  // namespace

template <class T>
void launch_chains(const Chains& tables, const ChainArenas<T>& arenas, const ChainTask& task, int64_t rows,
                   int device) {
  if (rows == 0) return;
  chains<<<static_cast<unsigned>(rows), threads, 0, cuda::current_stream(device)>>>(tables, arenas, task);
}

template <class T>
void launch_chain_proximal(const Chains& tables, T* w, const T* scales, const T* variances, const double* rates,
                           const ChainTask& task, int64_t rows, int device) {
  if (rows == 0) return;
  chain_proximal<<<static_cast<unsigned>(rows), threads, 0, cuda::current_stream(device)>>>(tables, w, scales,
                                                                                            variances, rates, task);
}

template <class T>
void launch_chain_scale(const Chains& tables, T* w, const double* by, int64_t rows, int device) {
  if (rows == 0) return;
  chain_scale<<<static_cast<unsigned>(rows), threads, 0, cuda::current_stream(device)>>>(tables, w, by);
}

template <class T>
void launch_columns(const T* w, T* g, int64_t count, int64_t rows, double weight, double* total, int device) {
  if (count == 0) return;
  columns<<<static_cast<unsigned>(count), threads, 0, cuda::current_stream(device)>>>(w, g, count, rows, weight, total);
}

template void launch_chains(const Chains&, const ChainArenas<float>&, const ChainTask&, int64_t, int);
template void launch_chains(const Chains&, const ChainArenas<double>&, const ChainTask&, int64_t, int);
template void launch_chain_proximal(const Chains&, float*, const float*, const float*, const double*, const ChainTask&,
                                    int64_t, int);
template void launch_chain_proximal(const Chains&, double*, const double*, const double*, const double*,
                                    const ChainTask&, int64_t, int);
template void launch_chain_scale(const Chains&, float*, const double*, int64_t, int);
template void launch_chain_scale(const Chains&, double*, const double*, int64_t, int);
template void launch_columns(const float*, float*, int64_t, int64_t, double, double*, int);
template void launch_columns(const double*, double*, int64_t, int64_t, double, double*, int);

}  // namespace espalier
