#include "boxes.h"

#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/max.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/min.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

void check_boxes(const at::Tensor& boxes, const char* what) {
  if (boxes.dim() >= 1 && boxes.size(-1) == 4 && boxes.is_floating_point()) return;
  std::string sizes;
  for (const int64_t size : boxes.sizes()) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
  throw Error(std::string(what) + " are [" + sizes + "] of " + c10::toString(boxes.scalar_type()) +
              "; [..., 4] of floating point is needed: left, upper, right and lower edge");
}

at::Tensor like(const std::array<double, 4>& numbers, const at::Tensor& x) {
  return at::tensor(numbers, at::kDouble).to(x.options());
}

struct Centres {
  at::Tensor middle, size;  // [..., 2]
};

Centres centres_of(const at::Tensor& boxes) {
  const at::Tensor low = boxes.slice(-1, 0, 2), high = boxes.slice(-1, 2, 4);
  return {(low + high) * 0.5, high - low};
}

struct Overlap {
  at::Tensor common, all;  // areas [...]
};

// Of boxes that can be broadcast against each other.
Overlap overlap_of(const at::Tensor& a, const at::Tensor& b, double least) {
  const at::Tensor low = at::maximum(a.slice(-1, 0, 2), b.slice(-1, 0, 2));
  const at::Tensor high = at::minimum(a.slice(-1, 2, 4), b.slice(-1, 2, 4));
  const at::Tensor sides = (high - low).clamp_min(0);
  const at::Tensor common = sides.select(-1, 0) * sides.select(-1, 1);
  return {common, (box_areas(a) + box_areas(b) - common).clamp_min(least)};
}

at::Tensor giou_of(const at::Tensor& a, const at::Tensor& b, double least) {
  const Overlap overlap = overlap_of(a, b, least);
  const at::Tensor low = at::minimum(a.slice(-1, 0, 2), b.slice(-1, 0, 2));
  const at::Tensor high = at::maximum(a.slice(-1, 2, 4), b.slice(-1, 2, 4));
  const at::Tensor sides = (high - low).clamp_min(0);
  const at::Tensor around = (sides.select(-1, 0) * sides.select(-1, 1)).clamp_min(least);
  return overlap.common / overlap.all - (around - overlap.all) / around;
}

}  // namespace

at::Tensor encode_boxes(const at::Tensor& boxes, const at::Tensor& targets, const BoxCoding& coding) {
  check_boxes(boxes, "boxes");
  check_boxes(targets, "the boxes that they are compared with");
  const Centres from = centres_of(boxes), to = centres_of(targets);
  const at::Tensor deltas = at::cat({(to.middle - from.middle) / from.size, (to.size / from.size).log()}, -1);
  return (deltas - like(coding.mean, deltas)) / like(coding.deviation, deltas);
}

at::Tensor decode_boxes(const at::Tensor& boxes, const at::Tensor& deltas, const BoxCoding& coding,
                        std::optional<ImageSize> image) {
  check_boxes(boxes, "boxes");
  if (deltas.dim() != 2 || boxes.dim() != 2 || deltas.size(0) != boxes.size(0) || deltas.size(1) % 4 != 0)
    throw Error("the differences of boxes are [n, 4] or [n, 4 classes], for as many boxes");
  const at::Tensor scaled = deltas.reshape({deltas.size(0), deltas.size(1) / 4, 4}) * like(coding.deviation, deltas) +
                            like(coding.mean, deltas);
  const Centres from = centres_of(boxes.unsqueeze(1));
  const double limit = std::log(coding.largest_ratio);
  const at::Tensor middle = from.middle + from.size * scaled.slice(-1, 0, 2);
  const at::Tensor half = from.size * scaled.slice(-1, 2, 4).clamp(-limit, limit).exp() * 0.5;
  at::Tensor decoded = at::cat({middle - half, middle + half}, -1);
  if (image) {
    const auto width = static_cast<double>(image->width), height = static_cast<double>(image->height);
    decoded = at::minimum(decoded.clamp_min(0), like({width, height, width, height}, decoded));
  }
  return decoded.reshape(deltas.sizes());
}

at::Tensor box_areas(const at::Tensor& boxes) {
  check_boxes(boxes, "boxes");
  const at::Tensor sides = boxes.slice(-1, 2, 4) - boxes.slice(-1, 0, 2);
  return sides.select(-1, 0) * sides.select(-1, 1);
}

at::Tensor pairwise_iou(const at::Tensor& a, const at::Tensor& b, double least) {
  const Overlap overlap = overlap_of(a.unsqueeze(1), b.unsqueeze(0), least);
  return overlap.common / overlap.all;
}

at::Tensor aligned_iou(const at::Tensor& a, const at::Tensor& b, double least) {
  const Overlap overlap = overlap_of(a, b, least);
  return overlap.common / overlap.all;
}

at::Tensor aligned_giou(const at::Tensor& a, const at::Tensor& b, double least) {
  return giou_of(a, b, least);
}

at::Tensor pairwise_giou(const at::Tensor& a, const at::Tensor& b, double least) {
  return giou_of(a.unsqueeze(1), b.unsqueeze(0), least);
}

at::Tensor make_anchors(int64_t height, int64_t width, int64_t stride, const AnchorOptions& options) {
  std::vector<float> shapes;
  const auto side = static_cast<double>(stride) * options.scale;
  for (const double ratio : options.ratios) {
    const auto half_width = static_cast<float>(0.5 * side / std::sqrt(ratio));
    const auto half_height = static_cast<float>(0.5 * side * std::sqrt(ratio));
    for (const float edge : {-half_width, -half_height, half_width, half_height}) shapes.push_back(edge);
  }
  const int64_t each = std::ssize(options.ratios);
  const at::Tensor columns = at::arange(width, at::kFloat) * stride, rows = at::arange(height, at::kFloat) * stride;
  const at::Tensor x = columns.unsqueeze(0).expand({height, width}), y = rows.unsqueeze(1).expand({height, width});
  const at::Tensor places = at::stack({x, y, x, y}, -1).reshape({height * width, 1, 4});
  return (places + at::tensor(shapes).reshape({1, each, 4})).reshape({height * width * each, 4});
}

at::Tensor feature_levels(const at::Tensor& boxes, int64_t levels, double finest) {
  const c10::NoGradGuard no_grad;
  // A box of exactly the limit belongs to the coarser level, whatever the square root rounds to.
  constexpr double tie = 1e-6;
  const at::Tensor ratio = box_areas(boxes).clamp_min(0).sqrt() / finest + tie;
  return ratio.log2().floor().clamp(0, static_cast<double>(levels - 1)).to(at::kLong);
}

}  // namespace espalier::detection
