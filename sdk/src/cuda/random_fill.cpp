#include <ATen/core/Tensor.h>

#include "cuda/kernels.h"
#include "espalier/error.h"

#if ESPALIER_WITH_CUDA
#include <c10/cuda/CUDAStream.h>

#include "cuda/random_fill.h"
#endif

namespace espalier::cuda {

void fill_dropout_mask([[maybe_unused]] at::Tensor& mask, [[maybe_unused]] uint32_t threshold,
                       [[maybe_unused]] double kept, [[maybe_unused]] RandomKey key, [[maybe_unused]] int64_t first) {
#if ESPALIER_WITH_CUDA
  cudaStream_t stream = c10::cuda::getCurrentCUDAStream(mask.device().index());
  switch (mask.scalar_type()) {
    case at::kFloat:
      return launch_dropout_mask(mask.data_ptr<float>(), first, mask.numel(), threshold, static_cast<float>(kept),
                                 key.value(), stream);
    case at::kDouble:
      return launch_dropout_mask(mask.data_ptr<double>(), first, mask.numel(), threshold, kept, key.value(), stream);
    case at::kBFloat16:
      return launch_dropout_mask_bf16(mask.data_ptr(), first, mask.numel(), threshold, static_cast<float>(kept),
                                      key.value(), stream);
    default:
      throw Error("fill_dropout_mask: no such type");
  }
#else
  throw Error("this Espalier was built without CUDA");
#endif
}

}  // namespace espalier::cuda
