#pragma once

#include <cstdint>
#include <vector>

// Channels of images in channels_last order, taken apart and put together. LibTorch's index_select would give up the
// order of the memory.
namespace espalier {

// Some channels of pixels side by side: those of the n-th pixel begin at data + n * count.
struct ChannelPart {
  const float* data = nullptr;
  int64_t count = 0;
};

// to[pixel * channels + c] = the source[c]-th of all channels of the parts, plus shift[c]. A source that is as large as
// their number stands for zero.
void join_channels(const std::vector<ChannelPart>& parts, const int32_t* source, const float* shift, int64_t pixels,
                   int64_t channels, float* to);

// to[pixel * count + i] = from[pixel * channels + places[i]]
void take_channels(const float* from, int64_t channels, const int32_t* places, int64_t count, int64_t pixels,
                   float* to);

}  // namespace espalier
