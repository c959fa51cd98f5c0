#pragma once

#include <ATen/core/Tensor.h>

namespace espalier::detection {

// Returns which boxes stay when those are left out that overlap a better one by more than `threshold` of their union
// (non-maximum suppression): their numbers, int64, in the order of their scores, the best first; of equal scores the
// earlier one is the better. boxes: [n, 4] as in boxes.h, float32 or float64; scores: [n] of any floating point. It
// computes on the CPU, on the threads of LibTorch, and gives the numbers on the boxes' device. Throws Error if sizes or
// types do not fit, or if a score is not a number.
at::Tensor nms(const at::Tensor& boxes, const at::Tensor& scores, double threshold);
// Returns the same where boxes leave out only those of the same class. classes: int64 [n].
at::Tensor nms_by_class(const at::Tensor& boxes, const at::Tensor& scores, const at::Tensor& classes, double threshold);

}  // namespace espalier::detection
