#include "data/gather_kernels.h"

#include "espalier/isa.h"
#include "espalier/parallel.h"

namespace espalier {

namespace {

bool is_plain(const ImageTransform& a) {
  return a.crop == 0 && a.flip == 0 && a.rotate == 0 && a.cutout == 0;
}

// Bytes of one image, channel by channel, as normalised numbers of one pixel after the other.
template <class T>
void normalize_image(const GatherArguments& a, const uint8_t* from, T* to) {
  const int64_t pixels = int64_t{a.height} * a.width;
  const int64_t channels = a.channels;
  for (int64_t c = 0; c < channels; ++c) {
    const float scale = a.normalization.scale[c], shift = a.normalization.shift[c];
    const uint8_t* plane = from + c * pixels;
    if (channels == 1) {
      vector_loop(0, pixels, [=](int64_t i) { to[i] = static_cast<T>(static_cast<float>(plane[i]) * scale + shift); });
    } else {
      for (int64_t i = 0; i < pixels; ++i) {
        to[i * channels + c] = static_cast<T>(static_cast<float>(plane[i]) * scale + shift);
      }
    }
  }
}

}  // namespace

template <class T>
void gather_on_cpu(const GatherArguments& a, T* out) {
  const int64_t image = int64_t{a.channels} * a.height * a.width;
  parallel_for(a.count, 8, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t sample = a.order[n];
      const uint8_t* from = a.bytes + (a.gathered ? n : sample) * image;
      T* to = out + n * image;
      if (is_plain(a.augmentation)) {
        normalize_image(a, from, to);
        continue;
      }
      const Draw d = draw_of(a.augmentation, a.key.with(static_cast<uint64_t>(sample)), a.height, a.width);
      for (int y = 0; y < a.height; ++y) {
        for (int x = 0; x < a.width; ++x) {
          write_pixel(a, d, from, to, y, x);
        }
      }
    }
  });
}

template void gather_on_cpu(const GatherArguments&, float*);
template void gather_on_cpu(const GatherArguments&, double*);

}  // namespace espalier
