#pragma once

#include <cstdint>

#include "masks.h"

namespace espalier::detection {

// Returns the mask of an image that a network's small mask of an object stands for: `values` [rows, columns], row by
// row, lie in the box `left, upper, right, lower`, in pixels of the image, are interpolated at the centres of the
// image's pixels, with 0 outside, and what is at least `threshold` belongs to the mask (paste_masks_in_image of
// mmdetection). The mask of a box without an area is empty. Throws Error if the image is too large or a number is not
// finite.
Rle paste_mask(const float* values, int64_t rows, int64_t columns, const double (&box)[4], int64_t height,
               int64_t width, double threshold = 0.5);

}  // namespace espalier::detection
