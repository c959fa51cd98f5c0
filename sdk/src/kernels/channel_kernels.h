#pragma once

#include <array>
#include <cstdint>
#include <vector>

// Channels of images in channels_last order, taken apart and put together. LibTorch's index_select would give up the
// order of the memory.
namespace espalier {

// Some channels of pixels side by side: those of the n-th pixel begin at data + n * count.
struct ChannelPart {
  const float* data = nullptr;
  int64_t count = 0;
  int64_t before = 0;  // how many numbers of the same memory lie before `data`, which may be read but do not count
};

namespace channel_moves {

constexpr int64_t lanes = 16;

// From a vector of numbers of a source, some into their lanes of a vector of the result.
struct Move {
  int64_t part = 0, offset = 0;        // the source, and where in a pixel of it the vector begins
  std::array<int32_t, lanes> place{};  // lane of the result so far, or lanes + lane of the vector
};
// All moves into a vector of the result.
struct Into {
  int64_t first = 0;  // the channel of its first lane
  std::vector<Move> moves;
};

}  // namespace channel_moves

// Puts channels of several parts into one image.
class ChannelJoin {
 public:
  // counts: how many channels each part has. Channel c of the result is the source[c]-th of all channels of the parts,
  // plus shift[c]; a source that is as large as their number stands for zero.
  ChannelJoin(std::vector<int64_t> counts, std::vector<int32_t> source, std::vector<float> shift);
  // Writes the channels of some pixels: to[pixel * channels + c]. The parts have the counts given before.
  void operator()(const std::vector<ChannelPart>& parts, int64_t pixels, float* to) const;

 private:
  void one_by_one(const std::vector<ChannelPart>& parts, int64_t begin, int64_t end, float* to) const;

  std::vector<int64_t> counts_;
  std::vector<int32_t> source_;
  std::vector<float> shift_;
  std::vector<channel_moves::Into> vectors_;  // empty where numbers are moved one by one
};

// Takes some channels out of an image.
class ChannelTake {
 public:
  // channels: of the image. Channel i of the result is its places[i]-th.
  ChannelTake(int64_t channels, std::vector<int32_t> places);
  // to[pixel * count + i] = from[pixel * channels + places[i]]
  void operator()(const float* from, int64_t pixels, float* to) const;

 private:
  int64_t channels_;
  std::vector<int32_t> places_;
  std::vector<channel_moves::Into> vectors_;  // empty where numbers are moved one by one
};

}  // namespace espalier
