#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::detection {

// A mask as COCO keeps it: the lengths of runs of pixels, column by column from the left, each column from the top. The
// first run is of pixels that are not in the mask, and may be empty; the next one is of pixels in it, and so on. The
// runs come to height x width pixels.
struct Rle {
  int64_t height = 0;          // pixels
  int64_t width = 0;           // pixels
  std::vector<uint32_t> runs;  // their lengths, pixels

  bool operator==(const Rle&) const = default;
};

// A rectangle: the left and the upper edge, width and height, in pixels, as COCO's files have them.
using Xywh = std::array<double, 4>;

// Returns the mask of bytes [height, width], row by row, in which what is not 0 belongs to the mask. No run but the
// first is empty. Throws Error if the image has no pixels, or 2^32 of them or more; this holds for all functions that
// make a mask.
Rle encode_mask(const uint8_t* bytes, int64_t height, int64_t width);
// Writes the mask as bytes 0 and 1, [height, width], row by row.
void decode_mask(const Rle& mask, uint8_t* bytes);
// Returns the mask with the given runs. Throws Error if they do not come to height x width pixels.
Rle mask_of_runs(std::span<const int64_t> runs, int64_t height, int64_t width);
// Returns the mask of COCO's compressed text, in which each run is written in groups of five bits, from the third run
// after the first on as the difference from the run before the last. Throws Error if the text is damaged, or if its
// runs do not come to height x width pixels.
Rle mask_of_text(std::string_view text, int64_t height, int64_t width);
// Returns the compressed text of a mask.
std::string text_of(const Rle& mask);
// Returns the mask of a polygon, x and y of each corner in turn, in pixels from the left upper corner of the image. It
// has exactly the pixels of pycocotools: the outline is drawn in an image five times as large, and in each column the
// pixels between its crossings belong to the mask. Throws Error if there are fewer than three corners or a number
// without a partner, or if a number is not finite or beyond 10^6.
Rle mask_of_polygon(std::span<const double> corners, int64_t height, int64_t width);
// Throws what mask_of_polygon() throws of the corners.
void check_polygon(std::span<const double> corners);

// Returns the pixels that belong to any of the masks, at least one, all of one size. Throws Error if sizes differ.
Rle unite(std::span<const Rle> masks);
// Returns the pixels that belong to all of the masks, likewise.
Rle intersect(std::span<const Rle> masks);
// Returns how many pixels belong to the mask.
int64_t area_of(const Rle& mask);
// Returns the smallest rectangle around the mask; all zero if the mask is empty.
Xywh box_of(const Rle& mask);

// Returns the intersection over the union of a found mask and a true one of the same size; of a crowd, the share of the
// found mask that lies in it. 0 if nothing is common. Throws Error if the sizes differ.
double mask_iou(const Rle& found, const Rle& truth, bool crowd);
// Returns the same of rectangles.
double box_iou(const Xywh& found, const Xywh& truth, bool crowd);

}  // namespace espalier::detection
