#pragma once

#include <cstdint>

#include "data/augment.h"

namespace espalier {

struct GatherArguments {
  const uint8_t* bytes;  // [N, C, H, W]
  const int64_t* order;  // [count]
  int64_t count;
  bool gathered;  // bytes holds the batch itself, in its order
  int channels, height, width;
  ImageTransform augmentation;
  Normalization normalization;
  RandomKey key;
};

// One pixel, all channels, into [H, W, C].
template <class T>
inline ESPALIER_HD void write_pixel(const GatherArguments& a, const Draw& d, const uint8_t* from, T* to, int y, int x) {
  int sy = y, sx = x;
  const bool inside = source_of(a.augmentation, d, a.height, a.width, sy, sx);
  const bool cut = is_cut(a.augmentation, d, y, x);
  for (int c = 0; c < a.channels; ++c) {
    const float byte = inside ? static_cast<float>(from[(c * a.height + sy) * a.width + sx]) : 0.F;
    to[(y * a.width + x) * a.channels + c] =
        cut ? T(0) : static_cast<T>(byte * a.normalization.scale[c] + a.normalization.shift[c]);
  }
}

#if ESPALIER_WITH_CUDA
template <class T>
void launch_gather(const GatherArguments& arguments, T* out, int device);
#else
template <class T>
void launch_gather(const GatherArguments&, T*, int) {}
#endif

}  // namespace espalier
