#include <espalier/cuda_stream.h>

#include "lbi_cuda.h"

namespace espalier {

namespace {

constexpr int threads = 128;

template <class T>
__device__ T sum_of_block(T mine) {
  __shared__ T partial[threads / 32];
  for (int lane = 16; lane > 0; lane /= 2) mine += __shfl_down_sync(0xffffffffU, mine, lane);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = mine;
  __syncthreads();
  T sum = 0;
  for (const T p : partial) sum += p;
  return sum;
}

// One block a row. Everything is read and written once: Gamma is not stored but made from Z.
template <class T>
__global__ void lbi(const LbiRow* rows, const double* scalars, LbiArenas<T> a, LbiFormula<T> formula) {
  const LbiRow row = rows[blockIdx.x];
  const T lr = static_cast<T>(scalars[0]);
  const T decay = static_cast<T>(row.decay);
  const int64_t end = row.offset + row.size;
  if (row.kind == LbiRow::plain) {
    for (int64_t i = row.offset + threadIdx.x; i < end; i += threads) formula.plain(a.w[i], a.g[i], a.m[i], lr, decay);
    return;
  }
  const bool group = row.kind == LbiRow::group;
  const T scale = group ? a.scale[row.state] : 0;
  T mine = 0;
  for (int64_t i = row.offset + threadIdx.x; i < end; i += threads) {
    T z = a.z[i];
    formula.coupled(a.w[i], a.g[i], a.m[i], z, group ? scale * z : formula.threshold(z), lr, decay);
    a.z[i] = z;
    mine += group ? z * z : static_cast<T>(z > formula.lambda || z < -formula.lambda);
  }
  const T sum = sum_of_block(mine);
  if (threadIdx.x != 0) return;
  if (group) {
    const T next = formula.scale(sum, row.size);
    a.scale[row.state] = next;
    a.support[row.state] = next > 0;
  } else {
    a.support[row.state] = sum / static_cast<T>(row.size);
  }
}

}  // namespace

template <class T>
void launch_lbi(int64_t count, const LbiRow* rows, const double* lr, const LbiArenas<T>& arenas,
                const LbiFormula<T>& formula, int device) {
  if (count == 0) return;
  lbi<<<static_cast<unsigned>(count), threads, 0, cuda::current_stream(device)>>>(rows, lr, arenas, formula);
}

template void launch_lbi(int64_t, const LbiRow*, const double*, const LbiArenas<float>&, const LbiFormula<float>&, int);
template void launch_lbi(int64_t, const LbiRow*, const double*, const LbiArenas<double>&, const LbiFormula<double>&,
                         int);

}  // namespace espalier
