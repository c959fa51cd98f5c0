#include "shapes.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace espalier {
namespace {

// The shape reaches from -one to one, in both directions.
constexpr int64_t one = 1024;

struct Shape {
  const char* name;
  bool (*inside)(int64_t u, int64_t v);  // called within the square from -one to one
};

// Five stripes, every other one filled; t from -one to one.
bool stripe(int64_t t) {
  return (t + one) * 5 / (2 * one + 1) % 2 == 0;
}

// The first four, the default, differ most.
const Shape shapes[] = {
    {"disc", [](int64_t u, int64_t v) { return u * u + v * v <= one * one; }},
    {"square", [](int64_t u, int64_t v) { return std::max(std::abs(u), std::abs(v)) <= one * 85 / 100; }},
    {"triangle", [](int64_t u, int64_t v) { return std::abs(u) * 2 <= v + one; }},
    {"cross", [](int64_t u, int64_t v) { return std::min(std::abs(u), std::abs(v)) <= one * 30 / 100; }},
    {"ring", [](int64_t u, int64_t v) { return u * u + v * v <= one * one && u * u + v * v >= one * one * 36 / 100; }},
    {"horizontal bars", [](int64_t, int64_t v) { return stripe(v); }},
    {"vertical bars", [](int64_t u, int64_t) { return stripe(u); }},
    {"diagonal bars", [](int64_t u, int64_t v) { return stripe((u + v) / 2); }},
    {"checkerboard",
     [](int64_t u, int64_t v) { return ((u + one) * 3 / (2 * one + 1) + (v + one) * 3 / (2 * one + 1)) % 2 == 0; }},
    {"frame", [](int64_t u, int64_t v) { return std::max(std::abs(u), std::abs(v)) >= one * 65 / 100; }},
};

// Positions are counted in parts of a pixel; each pixel is sampled in 4 x 4 places.
constexpr int64_t parts = 64;
constexpr int64_t samples = 4;

// Uniform in [low, high].
int64_t between(uint32_t bits, int64_t low, int64_t high) {
  return low + below(bits, static_cast<uint32_t>(high - low + 1));
}

}  // namespace

const std::vector<std::string>& shape_names() {
  static const auto* names = [] {
    auto* all = new std::vector<std::string>;
    for (const Shape& s : shapes) all->emplace_back(s.name);
    return all;
  }();
  return *names;
}

void draw_shape(size_t shape, const ShapeImage& image, RandomKey key, std::span<uint8_t> pixels) {
  const int64_t size = image.size, plane = size * size;
  const Random4 where = philox(key.with("place").value(), 0);
  const int64_t radius = between(where.v[0], size * parts * 26 / 100, size * parts * 42 / 100);
  const int64_t x0 = between(where.v[1], radius, size * parts - radius);
  const int64_t y0 = between(where.v[2], radius, size * parts - radius);

  // How much of each pixel the shape covers, of samples * samples.
  std::vector<uint8_t> cover(static_cast<size_t>(plane));
  for (int64_t y = 0; y < size; ++y) {
    for (int64_t x = 0; x < size; ++x) {
      uint8_t& covered = cover[static_cast<size_t>(y * size + x)];
      for (int64_t s = 0; s < samples * samples; ++s) {
        const int64_t u = (x * parts + (2 * (s % samples) + 1) * parts / (2 * samples) - x0) * one / radius;
        const int64_t v = (y * parts + (2 * (s / samples) + 1) * parts / (2 * samples) - y0) * one / radius;
        if (std::max(std::abs(u), std::abs(v)) <= one && shapes[shape].inside(u, v)) ++covered;
      }
    }
  }

  const RandomKey light = key.with("brightness"), noise = key.with("noise");
  // The sum of four bytes has the mean 510 and the standard deviation 147.8; 16 binary digits after the point.
  const int64_t scale = std::llround(image.noise * 255 / 147.8 * 65536);
  for (int64_t c = 0; c < image.channels; ++c) {
    const Random4 l = philox(light.value(), static_cast<uint64_t>(c));
    const int64_t background = between(l.v[0], 0, 90), foreground = between(l.v[1], background + 70, 255);
    Random4 words{};
    for (int64_t p = 0; p < plane; ++p) {
      if (p % 4 == 0) words = philox(noise.with(static_cast<uint64_t>(c)).value(), static_cast<uint64_t>(p / 4));
      const uint32_t w = words.v[p % 4];
      const int64_t sum = (w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24);
      const int64_t clean =
          background + (foreground - background) * cover[static_cast<size_t>(p)] / (samples * samples);
      const int64_t noisy = clean + ((sum - 510) * scale >> 16);
      pixels[static_cast<size_t>(c * plane + p)] = static_cast<uint8_t>(std::clamp<int64_t>(noisy, 0, 255));
    }
  }
}

}  // namespace espalier
