#include "resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace espalier {
namespace {

constexpr int digits = 22;  // binary, of weights; a byte times the sum of all weights fits into 31
constexpr int32_t half = 1 << (digits - 1);

uint8_t byte_of(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> digits, 0, 255));
}

// One direction: which source pixels make each output pixel, and with what weights.
struct Taps {
  std::vector<int> first, count;
  std::vector<int32_t> weights;  // `most` for each output pixel
  int most = 0;
  const int32_t* of(int i) const { return weights.data() + static_cast<ptrdiff_t>(i) * most; }
};

// Of the output pixels [begin, begin + n) when `from` pixels become `to`.
Taps taps_of(int from, int to, int begin, int n) {
  const double scale = static_cast<double>(from) / to;
  const double support = std::max(scale, 1.0), narrow = 1 / support;
  Taps t;
  t.most = static_cast<int>(std::ceil(support)) * 2 + 1;
  t.weights.resize(static_cast<size_t>(n) * static_cast<size_t>(t.most));
  std::vector<double> w(static_cast<size_t>(t.most));
  for (int i = 0; i < n; ++i) {
    const double centre = (begin + i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int count = std::min(static_cast<int>(centre + support + 0.5), from) - first;
    double sum = 0;
    for (int k = 0; k < count; ++k) {
      double& weight = w[static_cast<size_t>(k)];
      weight = std::max(0.0, 1 - std::abs((first + k - centre + 0.5) * narrow));
      sum += weight;
    }
    for (int k = 0; k < count; ++k) {
      t.weights[static_cast<size_t>(i) * static_cast<size_t>(t.most) + static_cast<size_t>(k)] =
          static_cast<int32_t>(0.5 + w[static_cast<size_t>(k)] / sum * (1 << digits));
    }
    t.first.push_back(first);
    t.count.push_back(count);
  }
  return t;
}

}  // namespace

void resize(const Image& image, const Cut& cut, int out_width, int out_height, uint8_t* out) {
  const Taps across = taps_of(cut.width, cut.to_width, cut.left, out_width);
  const Taps down = taps_of(cut.height, cut.to_height, cut.top, out_height);
  // The rows that any output row needs, resized across.
  const int begin = down.first.front(), end = down.first.back() + down.count.back();
  const ptrdiff_t row = ptrdiff_t{3} * out_width;
  std::vector<uint8_t> narrow(static_cast<size_t>((end - begin) * row));
  for (int y = begin; y < end; ++y) {
    const uint8_t* line =
        image.pixels.get() + static_cast<size_t>(cut.y + y) * image.row_bytes() + ptrdiff_t{3} * cut.x;
    uint8_t* to = narrow.data() + (y - begin) * row;
    for (int i = 0; i < out_width; ++i, to += 3) {
      const uint8_t* from = line + ptrdiff_t{3} * across.first[static_cast<size_t>(i)];
      const int32_t* weight = across.of(i);
      int32_t r = half, g = half, b = half;
      for (int k = 0; k < across.count[static_cast<size_t>(i)]; ++k, from += 3) {
        r += from[0] * weight[k];
        g += from[1] * weight[k];
        b += from[2] * weight[k];
      }
      to[0] = byte_of(r);
      to[1] = byte_of(g);
      to[2] = byte_of(b);
    }
  }
  std::vector<int32_t> sums(static_cast<size_t>(row));
  for (int i = 0; i < out_height; ++i) {
    std::ranges::fill(sums, half);
    const uint8_t* from = narrow.data() + (down.first[static_cast<size_t>(i)] - begin) * row;
    for (int k = 0; k < down.count[static_cast<size_t>(i)]; ++k, from += row) {
      const int32_t weight = down.of(i)[k];
      for (ptrdiff_t x = 0; x < row; ++x) sums[static_cast<size_t>(x)] += from[x] * weight;
    }
    for (ptrdiff_t c = 0; c < 3; ++c) {
      uint8_t* to = out + (c * out_height + i) * out_width;
      for (ptrdiff_t x = 0; x < out_width; ++x) to[x] = byte_of(sums[static_cast<size_t>(3 * x + c)]);
    }
  }
}

}  // namespace espalier
