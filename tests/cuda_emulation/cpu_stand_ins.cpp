// What the passes of the CPU and the functions that launch kernels call of libespalier, without LibTorch.
#include "espalier/cuda_stream.h"
#include "espalier/parallel.h"

namespace espalier {

void parallel_for(int64_t n, int64_t, const std::function<void(int64_t, int64_t)>& body) {
  if (n > 0) body(0, n);
}

CUstream_st* cuda::current_stream(int) {
  return nullptr;
}

}  // namespace espalier
