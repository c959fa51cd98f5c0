#include <espalier/cuda_stream.h>

#include "group_lasso_cuda.h"

namespace espalier {

namespace {

constexpr int threads = 128;

// One block a group.
template <class T>
__global__ void group_lasso(const T* w, T* g, int64_t size, double weight, double* total) {
  __shared__ double partial[threads];
  const T* wk = w + blockIdx.x * size;
  T* gk = g + blockIdx.x * size;
  double squares = 0;
  for (int64_t i = threadIdx.x; i < size; i += threads) squares += static_cast<double>(wk[i]) * wk[i];
  partial[threadIdx.x] = squares;
  __syncthreads();
  for (int half = threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  const double norm = sqrt(partial[0]);
  if (norm == 0) return;
  const T scale = static_cast<T>(weight / norm);
  for (int64_t i = threadIdx.x; i < size; i += threads) gk[i] += scale * wk[i];
  if (threadIdx.x == 0) atomicAdd(total, weight * norm);
}

}  // namespace

template <class T>
void launch_group_lasso(const T* w, T* g, int64_t count, int64_t size, double weight, double* total, int device) {
  group_lasso<<<static_cast<unsigned>(count), threads, 0, cuda::current_stream(device)>>>(w, g, size, weight, total);
}

template void launch_group_lasso(const float*, float*, int64_t, int64_t, double, double*, int);
template void launch_group_lasso(const double*, double*, int64_t, int64_t, double, double*, int);

}  // namespace espalier
