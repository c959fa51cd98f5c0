#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace espalier {

// Red, green and blue of one pixel after the other, row by row.
struct Image {
  int width = 0;
  int height = 0;
  std::unique_ptr<uint8_t[]> pixels;

  size_t row_bytes() const { return size_t{3} * static_cast<size_t>(width); }
};

// Reads a JPEG, PNG, WebP, BMP or TIFF file, whatever its name, in colour: grey is spread over the channels, CMYK is
// taken as Adobe writes it (inverted), alpha is left out, 16 bits are rounded to 8. Of a TIFF file it is the first
// page, with transparent pixels as libtiff composes them (over black). Throws InputError naming the file.
Image read_image(const std::string& path);

}  // namespace espalier
