#include "espalier/cuda_stream.h"
#include "espalier/error.h"

#if ESPALIER_WITH_CUDA
#include <c10/cuda/CUDAStream.h>
#endif

namespace espalier::cuda {

CUstream_st* current_stream([[maybe_unused]] int device) {
#if ESPALIER_WITH_CUDA
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
#else
  throw Error("this Espalier was built without CUDA");
#endif
}

}  // namespace espalier::cuda
