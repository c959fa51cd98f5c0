#include "paste.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

// How the pixels of an image along one direction lie in a small mask.
struct Line {
  int64_t begin = 0, end = 0;  // the pixels that meet the box
  std::vector<int64_t> low;    // for each of them the value before it, from -1
  std::vector<float> share;    // and how much of the next one it takes

  Line(double from, double to, int64_t values, int64_t pixels) {
    if (!(to > from)) return;
    const double scale = static_cast<double>(values) / (to - from);
    // Half a value beyond the box the interpolation has reached 0.
    const double margin = 0.5 / scale;
    begin = static_cast<int64_t>(std::clamp(std::floor(from - margin), 0.0, static_cast<double>(pixels)));
    end = static_cast<int64_t>(std::clamp(std::ceil(to + margin), 0.0, static_cast<double>(pixels)));
    for (int64_t i = begin; i < end; ++i) {
      const double place = (static_cast<double>(i) + 0.5 - from) * scale - 0.5;
      const double before = std::floor(place);
      low.push_back(static_cast<int64_t>(std::clamp(before, -2.0, static_cast<double>(values))));
      share.push_back(static_cast<float>(place - before));
    }
  }
};

}  // namespace

Rle paste_mask(const float* values, int64_t rows, int64_t columns, const double (&box)[4], int64_t height,
               int64_t width, double threshold) {
  if (!std::all_of(box, box + 4, [](double x) { return std::isfinite(x); }))
    throw Error("a mask lies in a box with an edge that is not finite; the network's outputs are damaged");
  const Line across(box[0], box[2], columns, width), down(box[1], box[3], rows, height);
  const auto at = [&](int64_t row, int64_t column) {
    return row < 0 || column < 0 || row >= rows || column >= columns ? 0.0F : values[row * columns + column];
  };
  std::vector<uint8_t> bytes(static_cast<size_t>(height * width), 0);
  for (int64_t y = down.begin; y < down.end; ++y) {
    const auto i = static_cast<size_t>(y - down.begin);
    for (int64_t x = across.begin; x < across.end; ++x) {
      const auto j = static_cast<size_t>(x - across.begin);
      const int64_t row = down.low[i], column = across.low[j];
      const float upper = at(row, column) * (1 - across.share[j]) + at(row, column + 1) * across.share[j];
      const float lower = at(row + 1, column) * (1 - across.share[j]) + at(row + 1, column + 1) * across.share[j];
      bytes[static_cast<size_t>(y * width + x)] = upper * (1 - down.share[i]) + lower * down.share[i] >= threshold;
    }
  }
  return encode_mask(bytes.data(), height, width);
}

}  // namespace espalier::detection
