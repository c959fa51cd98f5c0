#pragma once

#include "espalier/api.h"

struct CUstream_st;

namespace espalier::cuda {

// Returns LibTorch's current stream on a device, as a cudaStream_t, for .cu files that see no LibTorch header. Throws
// Error if Espalier was built without CUDA.
ESPALIER_API CUstream_st* current_stream(int device);

}  // namespace espalier::cuda
