#include "data/gather_cuda.h"
#include "espalier/cuda_stream.h"

namespace espalier {

namespace {

// One block an image.
template <class T>
__global__ void gather(GatherArguments a, T* out) {
  const int64_t sample = a.order[blockIdx.x];
  const int64_t image = static_cast<int64_t>(a.channels) * a.height * a.width;
  const uint8_t* from = a.bytes + (a.gathered ? blockIdx.x : sample) * image;
  const Draw d = draw_of(a.augmentation, a.key.with(static_cast<uint64_t>(sample)), a.height, a.width);
  for (int p = static_cast<int>(threadIdx.x); p < a.height * a.width; p += static_cast<int>(blockDim.x)) {
    write_pixel(a, d, from, out + blockIdx.x * image, p / a.width, p % a.width);
  }
}

}  // namespace

template <class T>
void launch_gather(const GatherArguments& a, T* out, int device) {
  if (a.count > 0) gather<<<static_cast<unsigned>(a.count), 256, 0, cuda::current_stream(device)>>>(a, out);
}

template void launch_gather(const GatherArguments&, float*, int);
template void launch_gather(const GatherArguments&, double*, int);

}  // namespace espalier
