#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

// For .cu files of plugins: one pass over an arena, one element a thread, with the span table of optimizer.h.
namespace espalier::cuda {

template <class Update>
__global__ void pass_kernel(int64_t n, const double* table, Update update) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const double decay = table[i / 64];    // slot_alignment
    if (decay == decay) update(i, decay);  // NaN: not selected
  }
}

// update(element, decay) on every selected element. Update is a struct with a __device__ operator() const.
template <class Update>
void launch_pass(int64_t n, const double* table, const Update& update, cudaStream_t stream) {
  if (n == 0) return;
  const int64_t blocks = (n + 255) / 256;
  pass_kernel<<<static_cast<unsigned>(blocks < 65535 ? blocks : 65535), 256, 0, stream>>>(n, table, update);
}

}  // namespace espalier::cuda
