#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier::detection {

// When a box belongs to an object.
struct MatchOptions {
  double positive = 0.5;  // from this intersection over the union on it belongs to the object that it meets best
  double negative = 0.5;  // below this it is background; between the two it is neither
  // Whether the boxes that meet an object best belong to it, too, if their IoU is at least `least`: so that each object
  // has a box.
  bool best_of_each = false;
  double least = 0.3;  // see best_of_each
};

inline constexpr int64_t background = -1;  // of match_boxes(): the box meets no object
inline constexpr int64_t neither = -2;     // of match_boxes(): the box does not count

// Returns the row of the object that each box belongs to, or `background` or `neither`: int64 [n] on the boxes' device
// (MaxIoUAssigner of mmdetection; Ren et al., Faster R-CNN, 2015, section 3.1.2). boxes: [n, 4]; objects: [m, 4] of the
// same type and device, where m may be 0. Of objects that a box meets equally well the first one counts, except for
// best_of_each, where the last one does. Nothing is recorded for gradients.
at::Tensor match_boxes(const at::Tensor& boxes, const at::Tensor& objects, const MatchOptions& options);

// Boxes that were drawn.
struct Drawn {
  at::Tensor objects;     // numbers of boxes that belong to an object, ascending, int64
  at::Tensor background;  // numbers of boxes that are background, ascending, int64
};

// Draws `count` boxes, at most the share `positive` of them from those that belong to an object, all others from the
// background (RandomSampler of mmdetection); fewer if there are not so many. matched: as match_boxes() gives it, [n];
// draws: [n] of floating point: boxes with the smallest numbers are drawn, so that independent uniform numbers make
// each choice as likely as any other.
Drawn draw_boxes(const at::Tensor& matched, const at::Tensor& draws, int64_t count, double positive);

}  // namespace espalier::detection
