#pragma once

// The rectangle that cutmix draws. Tests record it.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <espalier/random.h>

namespace espalier::cutmix {

// A part of an image, pixels. The ends do not belong to it.
struct Box {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// A rectangle of the image's aspect ratio, 1 - share of its area. Its centre may be any pixel, and what hangs over the
// image is cut off.
inline Box box_of(double share, RandomKey key, int64_t height, int64_t width) {
  const double side = std::sqrt(1 - share);
  const Random4 r = philox(key.with("box").value(), 0);
  const auto h = static_cast<int64_t>(static_cast<double>(height) * side);
  const auto w = static_cast<int64_t>(static_cast<double>(width) * side);
  const int64_t y = below(r.v[0], static_cast<uint32_t>(height)), x = below(r.v[1], static_cast<uint32_t>(width));
  return {std::max<int64_t>(y - h / 2, 0), std::min(y + (h + 1) / 2, height), std::max<int64_t>(x - w / 2, 0),
          std::min(x + (w + 1) / 2, width)};
}

// The share of an image that the rectangle leaves.
inline double rest_of(const Box& b, int64_t height, int64_t width) {
  return 1 - static_cast<double>((b.bottom - b.top) * (b.right - b.left)) / static_cast<double>(height * width);
}

}  // namespace espalier::cutmix
