#include "kernels/channel_kernels.h"

#include <algorithm>

#include "espalier/isa.h"

namespace espalier {

void join_channels(const std::vector<ChannelPart>& parts, const int32_t* source, const float* shift, int64_t pixels,
                   int64_t channels, float* to) {
  int64_t all = 0;
  for (const ChannelPart& p : parts) all += p.count;
  // The channels of a pixel, and a zero.
  std::vector<float> together(static_cast<size_t>(all) + 1, 0);
  float* const pixel = together.data();
  with_isa([=, &parts] {
    float* out = to;
    for (int64_t n = 0; n < pixels; ++n, out += channels) {
      float* next = pixel;
      for (const ChannelPart& p : parts) next = std::copy_n(p.data + n * p.count, p.count, next);
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) out[c] = pixel[source[c]] + shift[c];
    }
  });
}

void take_channels(const float* from, int64_t channels, const int32_t* places, int64_t count, int64_t pixels,
                   float* to) {
  with_isa([=] {
    const float* in = from;
    float* out = to;
    for (int64_t n = 0; n < pixels; ++n, in += channels, out += count) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[i] = in[places[i]];
    }
  });
}

}  // namespace espalier
