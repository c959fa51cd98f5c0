#pragma once

// What random_erasing draws. Tests record the draws.
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <espalier/random.h>

namespace espalier::random_erasing {

struct Settings {
  double probability = 0.25;
  std::array<double, 2> scale{0.02, 0.33};  // area of the rectangle, as a share of the image's
  std::array<double, 2> ratio{0.3, 3.3};    // height to width
};

// A part of an image, pixels. Without height: nothing is erased.
struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

constexpr uint64_t attempts = 10;

// Area and ratio are drawn until the rectangle is lower and narrower than the image, ten times at most.
inline Box box_of(const Settings& s, RandomKey key, int64_t height, int64_t width) {
  if (static_cast<double>(unit_float(philox(key.value(), 0).v[0])) >= s.probability) return {};
  const double low = std::log(s.ratio[0]), high = std::log(s.ratio[1]);
  for (uint64_t attempt = 1; attempt <= attempts; ++attempt) {
    const Random4 r = philox(key.value(), attempt);
    const double share = s.scale[0] + (s.scale[1] - s.scale[0]) * static_cast<double>(unit_float(r.v[0]));
    const double area = share * static_cast<double>(height * width);
    const double ratio = std::exp(low + (high - low) * static_cast<double>(unit_float(r.v[1])));
    const auto h = static_cast<int64_t>(std::nearbyint(std::sqrt(area * ratio)));
    const auto w = static_cast<int64_t>(std::nearbyint(std::sqrt(area / ratio)));
    if (h < 1 || w < 1 || h >= height || w >= width) continue;
    return {below(r.v[2], static_cast<uint32_t>(height - h + 1)), below(r.v[3], static_cast<uint32_t>(width - w + 1)),
            h, w};
  }
  return {};
}

// Writes normally distributed numbers of mean 0 and deviation 1, `channels` for each pixel (Box-Muller, two a time).
template <class T>
void fill_noise(RandomKey key, int64_t pixels, int64_t channels, T* out) {
  const int64_t blocks = (channels + 1) / 2;
  for (int64_t i = 0; i < pixels * blocks; ++i) {
    const Random4 r = philox(key.value(), static_cast<uint64_t>(i));
    const double radius = std::sqrt(-2 * std::log(1 - unit_double(r.v[0], r.v[1])));
    const double angle = 2 * std::numbers::pi * unit_double(r.v[2], r.v[3]);
    const int64_t c = 2 * (i % blocks);
    T* pixel = out + i / blocks * channels;
    pixel[c] = static_cast<T>(radius * std::cos(angle));
    if (c + 1 < channels) pixel[c + 1] = static_cast<T>(radius * std::sin(angle));
  }
}

}  // namespace espalier::random_erasing
