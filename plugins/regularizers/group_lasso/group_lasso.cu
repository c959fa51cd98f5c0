#include <espalier/cuda_stream.h>

#include "group_lasso_cuda.h"

namespace espalier {

namespace {

constexpr int threads = 128;

// One block of threads for each group.
template <class T>
__global__ void group_lasso(const T* w, T* g, LassoGroups groups, double weight, double* total) {
  __shared__ double partial[threads];
  const T* wk = w + blockIdx.x * groups.size;
  T* gk = g + blockIdx.x * groups.size;
  double squares = 0;
  for (int64_t j = 0; j < groups.pieces; ++j) {
    const T* wj = wk + j * groups.stride;
    for (int64_t i = threadIdx.x; i < groups.size; i += threads) squares += static_cast<double>(wj[i]) * wj[i];
  }
  partial[threadIdx.x] = squares;
  __syncthreads();
  for (int half = threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  const double norm = sqrt(partial[0]);
  if (norm == 0) return;
  const T scale = static_cast<T>(weight / norm);
  for (int64_t j = 0; j < groups.pieces; ++j) {
    const int64_t at = j * groups.stride;
    for (int64_t i = threadIdx.x; i < groups.size; i += threads) gk[at + i] += scale * wk[at + i];
  }
  if (threadIdx.x == 0) atomicAdd(total, weight * norm);
}

}  // namespace

template <class T>
void launch_group_lasso(const T* w, T* g, LassoGroups groups, double weight, double* total, int device) {
  group_lasso<<<static_cast<unsigned>(groups.count), threads, 0, cuda::current_stream(device)>>>(w, g, groups, weight,
                                                                                                 total);
}

template void launch_group_lasso(const float*, float*, LassoGroups, double, double*, int);
template void launch_group_lasso(const double*, double*, LassoGroups, double, double*, int);

}  // namespace espalier
