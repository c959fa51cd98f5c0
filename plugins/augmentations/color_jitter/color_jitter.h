#pragma once

// What color_jitter draws, and its operations on tensors. Tests record the draws, and compare the tensors on the CPU
// with the loops that the CPU has.
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>

#include <espalier/random.h>

#include "../image_memory.h"

namespace espalier::color_jitter {

enum Operation { brightness, contrast, saturation, hue };
constexpr int operations = 4;

// The share of red, green and blue in the grey of a pixel (ITU-R BT.601).
constexpr double grey_of[3] = {0.2989, 0.587, 0.114};

// How far each operation may go, as the options say it; one of zero is left out.
using Strengths = std::array<double, operations>;

// What an image draws: the order of the operations, and of each its factor. That of hue is a part of a turn.
struct Draw {
  std::array<int, operations> order{brightness, contrast, saturation, hue};
  std::array<double, operations> factor{};
};

inline Draw draw_of(const Strengths& strengths, RandomKey key) {
  Draw d;
  const Random4 order = philox(key.value(), 0), factor = philox(key.value(), 1);
  for (uint32_t i = operations - 1; i > 0; --i) std::swap(d.order[i], d.order[below(order.v[i], i + 1)]);
  for (size_t k = 0; k < operations; ++k) {
    const double s = strengths[k];
    const double low = k == hue ? -s : std::max(0.0, 1 - s), high = k == hue ? s : 1 + s;
    d.factor[k] = low + (high - low) * static_cast<double>(unit_float(factor.v[k]));
  }
  return d;
}

inline at::Tensor grey(const at::Tensor& images) {
  if (images.size(1) == 1) return images;
  return images.slice(1, 0, 1) * grey_of[0] + images.slice(1, 1, 2) * grey_of[1] + images.slice(1, 2, 3) * grey_of[2];
}

inline at::Tensor blend(const at::Tensor& images, const at::Tensor& other, const at::Tensor& factor) {
  return (images * factor + other * (1 - factor)).clamp(0, 1);
}

// Turns the hue: in units of a sixth of a turn it is how far the middle channel stands between the smallest and the
// largest, and which channel is the largest. Back again, each channel is the largest less a trapezium of the hue.
inline at::Tensor turn(const at::Tensor& images, const at::Tensor& factor) {
  const at::Tensor r = images.slice(1, 0, 1), g = images.slice(1, 1, 2), b = images.slice(1, 2, 3);
  const at::Tensor most = images.amax(1, true), range = most - images.amin(1, true);
  const at::Tensor divisor = at::where(range == 0, at::ones_like(range), range);
  const at::Tensor sixths =
      at::where(most == r, (g - b) / divisor, at::where(most == g, (b - r) / divisor + 2, (r - g) / divisor + 4));
  const at::Tensor turned = sixths + factor * 6;
  std::vector<at::Tensor> channels;
  for (const double n : {5, 3, 1}) {
    const at::Tensor k = (turned + n).remainder(6);
    channels.push_back(most - range * at::minimum(k, 4 - k).clamp(0, 1));
  }
  return at::cat(channels, 1);
}

// Changes images [batch, channels, height, width], where black is 0 and white is 1, by the draws of each; nothing waits
// for the device. What has the same operation at the same place of its order is done at once.
inline void jitter(at::Tensor& images, const Strengths& strengths, const std::vector<Draw>& draws) {
  for (size_t place = 0; place < operations; ++place) {
    for (int k = 0; k < operations; ++k) {
      const auto operation = static_cast<size_t>(k);
      if (strengths[operation] == 0 || (k >= saturation && images.size(1) == 1)) continue;
      std::vector<int64_t> which;
      std::vector<double> factors;
      for (size_t i = 0; i < draws.size(); ++i) {
        if (draws[i].order[place] != k) continue;
        which.push_back(static_cast<int64_t>(i));
        factors.push_back(draws[i].factor[operation]);
      }
      if (which.empty()) continue;
      const at::Tensor index = on_device(which, images);
      const at::Tensor factor = on_device(factors, images).to(images.scalar_type()).view({-1, 1, 1, 1});
      at::Tensor part = images.index_select(0, index);
      switch (k) {
        case brightness:
          part = (part * factor).clamp(0, 1);
          break;
        case contrast:
          part = blend(part, grey(part).mean({1, 2, 3}, true), factor);
          break;
        case saturation:
          part = blend(part, grey(part), factor);
          break;
        default:
          part = turn(part, factor);
      }
      images.index_copy_(0, index, part);
    }
  }
}

}  // namespace espalier::color_jitter
