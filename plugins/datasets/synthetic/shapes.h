#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <espalier/random.h>

namespace espalier {

// The names of the shapes, one a class.
const std::vector<std::string>& shape_names();

struct ShapeImage {
  int64_t size = 16;  // of a side, in pixels
  int64_t channels = 1;
  double noise = 0;  // standard deviation, of the range of brightness
};

// Draws a shape at a random position, size and brightness, with noise, into bytes [channels, size, size]. In integers
// throughout: the same bytes on every machine.
void draw_shape(size_t shape, const ShapeImage& image, RandomKey key, std::span<uint8_t> pixels);

}  // namespace espalier
