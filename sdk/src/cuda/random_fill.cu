#include <cuda_bf16.h>

#include "cuda/random_fill.h"
#include "espalier/random.h"

namespace espalier::cuda {

namespace {

// One thread draws the four words of one counter, as the CPU does.
template <class T>
__global__ void dropout_mask(T* mask, int64_t first, int64_t n, uint32_t threshold, T kept, T zero, uint64_t key) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t before = first / 4;  // words of four draws each
  for (int64_t i = before + static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; 4 * i < first + n;
       i += stride) {
    const Random4 r = philox(key, static_cast<uint64_t>(i));
    for (int j = 0; j < 4; ++j) {
      const int64_t at = 4 * i + j - first;
      if (at >= 0 && at < n) mask[at] = r.v[j] < threshold ? zero : kept;
    }
  }
}

template <class T>
void launch(T* mask, int64_t first, int64_t n, uint32_t threshold, T kept, T zero, uint64_t key, cudaStream_t stream) {
  if (n == 0) return;
  const int64_t blocks = ((first + n + 3) / 4 - first / 4 + 255) / 256;
  dropout_mask<<<static_cast<unsigned>(blocks < 4096 ? blocks : 4096), 256, 0, stream>>>(mask, first, n, threshold,
                                                                                         kept, zero, key);
}

}  // namespace

template <class T>
void launch_dropout_mask(T* mask, int64_t first, int64_t n, uint32_t threshold, T kept, uint64_t key,
                         cudaStream_t stream) {
  launch(mask, first, n, threshold, kept, T(0), key, stream);
}
template void launch_dropout_mask(float*, int64_t, int64_t, uint32_t, float, uint64_t, cudaStream_t);
template void launch_dropout_mask(double*, int64_t, int64_t, uint32_t, double, uint64_t, cudaStream_t);

void launch_dropout_mask_bf16(void* mask, int64_t first, int64_t n, uint32_t threshold, float kept, uint64_t key,
                              cudaStream_t stream) {
  launch(static_cast<__nv_bfloat16*>(mask), first, n, threshold, __float2bfloat16(kept), __float2bfloat16(0.F), key,
         stream);
}

}  // namespace espalier::cuda
