#pragma once

#include <cstdint>

#include "image.h"

namespace espalier {

// What becomes of an image: a part of it is resized, and a rectangle cut out of that.
struct Cut {
  int x = 0, y = 0, width = 0, height = 0;  // the part
  int to_width = 0, to_height = 0;          // its size afterwards
  int left = 0, top = 0;                    // of the rectangle in it

  bool operator==(const Cut&) const = default;
};

// Writes the rectangle as bytes [3, out_height, out_width]. Bilinear with antialiasing: a triangle as wide as two
// pixels of the coarser side, first along the rows, then down the columns, each rounded to bytes, in the fixed-point
// numbers of Pillow, whose results it gives.
void resize(const Image& image, const Cut& cut, int out_width, int out_height, uint8_t* out);

}  // namespace espalier
