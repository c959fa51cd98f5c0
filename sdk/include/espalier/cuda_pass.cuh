#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

// One pass over an arena on the GPU, for .cu files of plugins, with the span table of optimizer.h.
namespace espalier::cuda {

// Calls update(element, decay) for every element of blocks that are selected. Each thread takes one element after the
// other. The 64 is slot_alignment of weights.h, which a .cu file cannot include: change both together.
template <class Update>
__global__ void pass_kernel(int64_t n, const double* table, Update update) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const double decay = table[i / 64];    // slot_alignment
    if (decay == decay) update(i, decay);  // NaN: not selected
  }
}

// Launches pass_kernel over n elements of an arena on a stream. `table` is the device memory of span_table(). `update`
// is a struct with a `__device__ void operator()(int64_t element, double decay) const`.
template <class Update>
void launch_pass(int64_t n, const double* table, const Update& update, cudaStream_t stream) {
  if (n == 0) return;
  const int64_t blocks = (n + 255) / 256;
  pass_kernel<<<static_cast<unsigned>(blocks < 65535 ? blocks : 65535), 256, 0, stream>>>(n, table, update);
}

}  // namespace espalier::cuda
