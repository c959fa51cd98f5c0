#pragma once

// What randaugment draws, how strong its operations are, and the operations on tensors. Tests record the draws, and
// compare the tensors on the CPU with the loops that the CPU has.
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <espalier/random.h>

#include "../image_memory.h"

namespace espalier::randaugment {

enum Operation {
  identity,
  shear_x,
  shear_y,
  translate_x,
  translate_y,
  rotate,
  brightness,
  color,
  contrast,
  sharpness,
  posterize,
  solarize,
  autocontrast,
  equalize
};
constexpr uint32_t operations = 14;

struct Settings {
  int64_t operations = 2;
  int64_t magnitude = 9;
  int64_t bins = 31;
  bool bilinear = false;
};

struct Draw {
  Operation operation = identity;
  bool negative = false;  // shears and shifts to the other side, less colour instead of more
};

inline std::vector<Draw> draws_of(const Settings& s, RandomKey key) {
  std::vector<Draw> draws;
  for (int64_t i = 0; i < s.operations; ++i) {
    const Random4 r = philox(key.value(), static_cast<uint64_t>(i));
    const auto operation = static_cast<Operation>(below(r.v[0], operations));
    draws.push_back({operation, operation >= shear_x && operation <= sharpness && below(r.v[1], 2) == 1});
  }
  return draws;
}

// The magnitude's value between those of the first and of the last bin: float32 numbers as torch.linspace gives them
// where the processor rounds a product and a sum at once. What is cut to a byte afterwards shows their last bit.
inline double between(double first, double last, const Settings& s) {
  const auto begin = static_cast<float>(first), end = static_cast<float>(last);
  const double step = static_cast<double>((end - begin) / static_cast<float>(s.bins - 1));
  const auto from_begin = static_cast<double>(s.magnitude), from_end = static_cast<double>(s.bins - 1 - s.magnitude);
  const double exact = s.magnitude < s.bins / 2 ? static_cast<double>(begin) + step * from_begin
                                                : static_cast<double>(end) - step * from_end;
  return static_cast<double>(static_cast<float>(exact));
}

// How strong an operation is: the slope of a shear, the pixels of a translation, the radians of a rotation, the factor
// of a blend, the bits that posterize keeps, the threshold of solarize.
inline double strength(const Draw& d, const Settings& s, int64_t height, int64_t width) {
  const double sign = d.negative ? -1 : 1;
  // A translation is 150 pixels at most of an image of 331.
  const auto pixels = [&](int64_t side) { return std::trunc(between(0, 150.0 / 331 * static_cast<double>(side), s)); };
  switch (d.operation) {
    case shear_x:
    case shear_y:
      return sign * between(0, 0.3, s);
    case translate_x:
      return sign * pixels(width);
    case translate_y:
      return sign * pixels(height);
    case rotate:
      return sign * between(0, 30, s) * std::numbers::pi / 180;
    case brightness:
    case color:
    case contrast:
    case sharpness:
      return 1 + sign * between(0, 0.9, s);
    case posterize: {
      const float bins = static_cast<float>(s.bins - 1) / 4;
      return 8 - static_cast<double>(std::nearbyint(static_cast<float>(s.magnitude) / bins));
    }
    case solarize:
      return between(255, 0, s);
    default:
      return 0;
  }
}

// Where a pixel of the result comes from: column = xx * column + xy * row + x, row = yx * column + yy * row + y.
struct Affine {
  double xx = 1, xy = 0, x = 0, yx = 0, yy = 1, y = 0;
};

// Shears leave the upper or left border of the image where it is, a rotation its centre.
inline Affine affine_of(Operation operation, double strength, int64_t height, int64_t width) {
  Affine a;
  switch (operation) {
    case shear_x:
      a.xy = strength, a.x = 0.5 * strength;
      break;
    case shear_y:
      a.yx = strength, a.y = 0.5 * strength;
      break;
    case translate_x:
      a.x = -strength;
      break;
    case translate_y:
      a.y = -strength;
      break;
    default: {
      const double cosine = std::cos(strength), sine = std::sin(strength);
      const double cx = 0.5 * static_cast<double>(width - 1), cy = 0.5 * static_cast<double>(height - 1);
      a = {cosine, -sine, cx - cosine * cx + sine * cy, sine, cosine, cy - sine * cx - cosine * cy};
    }
  }
  return a;
}

// The operations on tensors. Images are float32 [batch, channels, height, width] and hold whole numbers, the bytes. The
// products and sums of the blends are rounded one by one, as the published code does, so no operation fuses them.

inline at::Tensor grey(const at::Tensor& images) {
  const auto channel = [&](int64_t c) { return images.slice(1, c, c + 1); };
  return (channel(0) * 0.2989 + channel(1) * 0.587 + channel(2) * 0.114).floor();
}

inline at::Tensor blend(const at::Tensor& images, const at::Tensor& other, double factor) {
  return (images * factor + other * (1 - factor)).clamp(0, 255).floor();
}

// The mean of each pixel and its neighbours, in which it counts five times itself. The border stays.
inline at::Tensor blurred(const at::Tensor& images) {
  const int64_t height = images.size(2), width = images.size(3);
  at::Tensor sum = images.slice(2, 1, height - 1).slice(3, 1, width - 1) * 4;
  for (int64_t y = 0; y < 3; ++y)
    for (int64_t x = 0; x < 3; ++x) sum = sum + images.slice(2, y, height - 2 + y).slice(3, x, width - 2 + x);
  at::Tensor result = images.clone();
  result.slice(2, 1, height - 1).slice(3, 1, width - 1).copy_((sum / 13).round());
  return result;
}

inline at::Tensor stretched(const at::Tensor& images) {
  const at::Tensor least = images.amin({2, 3}, true), range = images.amax({2, 3}, true) - least;
  const at::Tensor scale = at::where(range == 0, at::ones_like(range), range).reciprocal() * 255;
  return at::where(range == 0, images, ((images - least) * scale).clamp(0, 255).floor());
}

// The histogram becomes flat: each byte maps to the share of the smaller ones, in steps of which the largest byte that
// occurs takes none.
inline at::Tensor equalized(const at::Tensor& images) {
  const int64_t pixels = images.size(2) * images.size(3);
  const at::Tensor bytes = images.to(at::kLong).flatten(2);
  const at::Tensor counts =
      at::zeros({images.size(0), images.size(1), 256}, bytes.options()).scatter_add_(2, bytes, at::ones_like(bytes));
  const at::Tensor step = (pixels - counts.gather(2, bytes.amax(2, true))).floor_divide(255);
  const at::Tensor smaller = counts.cumsum(2) - counts;
  const at::Tensor mapped = (smaller + step.floor_divide(2)).floor_divide(step.clamp_min(1)).clamp(0, 255);
  return at::where(step == 0, bytes, mapped.gather(2, bytes)).view(images.sizes()).to(images.scalar_type());
}

inline at::Tensor sampled(const at::Tensor& images, const Affine& a, bool bilinear) {
  const int64_t height = images.size(2), width = images.size(3);
  const at::TensorOptions exact = images.options().dtype(at::kDouble);
  const at::Tensor columns = at::arange(width, exact).view({1, -1}), rows = at::arange(height, exact).view({-1, 1});
  const at::Tensor x = columns * a.xx + rows * a.xy + a.x, y = columns * a.yx + rows * a.yy + a.y;
  const auto pixels = [&](const at::Tensor& row, const at::Tensor& column) {
    const at::Tensor inside = (row >= 0).logical_and(row < height).logical_and(column >= 0).logical_and(column < width);
    const at::Tensor index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).to(at::kLong);
    return images.flatten(2).index_select(2, index.flatten()).view(images.sizes()).to(at::kDouble) * inside;
  };
  if (!bilinear) return pixels(y.round(), x.round()).to(images.scalar_type());
  const at::Tensor left = x.floor(), top = y.floor(), right = x - left, below = y - top;
  const at::Tensor upper = pixels(top, left) * (1 - right) + pixels(top, left + 1) * right;
  const at::Tensor lower = pixels(top + 1, left) * (1 - right) + pixels(top + 1, left + 1) * right;
  return (upper * (1 - below) + lower * below).round().to(images.scalar_type());
}

inline at::Tensor changed(const at::Tensor& images, const Draw& d, const Settings& s) {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const double value = strength(d, s, height, width);
  switch (d.operation) {
    case identity:
      return images;
    case brightness:
      return (images * value).clamp(0, 255).floor();
    case color:
      return channels == 1 ? images : blend(images, grey(images), value);
    case contrast: {
      const at::Tensor sum = (channels == 1 ? images : grey(images)).sum({1, 2, 3}, true, at::kDouble);
      const at::Tensor mean = sum.to(at::kFloat) / static_cast<double>(height * width);
      return blend(images, mean, value);
    }
    case sharpness:
      return std::min(height, width) <= 2 ? images : blend(images, blurred(images), value);
    case posterize: {
      const double unit = std::exp2(8 - value);
      return (images / unit).floor() * unit;
    }
    case solarize:
      return at::where(images >= value, 255 - images, images);
    case autocontrast:
      return stretched(images);
    case equalize:
      return equalized(images);
    default:
      return sampled(images, affine_of(d.operation, value, height, width), s.bilinear);
  }
}

// Changes images of bytes by the draws of each; nothing waits for the device. What has the same operation at the same
// place is done at once.
inline void augment(at::Tensor& images, const std::vector<std::vector<Draw>>& draws, const Settings& s) {
  for (size_t place = 0; place < static_cast<size_t>(s.operations); ++place) {
    for (uint32_t k = 2; k < 2 * operations; ++k) {
      const Draw d{static_cast<Operation>(k / 2), k % 2 == 1};
      std::vector<int64_t> which;
      for (size_t i = 0; i < draws.size(); ++i) {
        if (draws[i][place].operation == d.operation && draws[i][place].negative == d.negative)
          which.push_back(static_cast<int64_t>(i));
      }
      if (which.empty()) continue;
      const at::Tensor index = on_device(which, images);
      images.index_copy_(0, index, changed(images.index_select(0, index), d, s).contiguous());
    }
  }
}

}  // namespace espalier::randaugment
