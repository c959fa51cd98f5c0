#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace espalier::cuda {

// Elements [first, first + n) of a mask.
template <class T>
void launch_dropout_mask(T* mask, int64_t first, int64_t n, uint32_t threshold, T kept, uint64_t key,
                         cudaStream_t stream);
void launch_dropout_mask_bf16(void* mask, int64_t first, int64_t n, uint32_t threshold, float kept, uint64_t key,
                              cudaStream_t stream);

}  // namespace espalier::cuda
