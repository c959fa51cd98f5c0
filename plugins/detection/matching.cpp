#include "matching.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/full.h>
#include <ATen/ops/max.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <c10/core/GradMode.h>

#include "boxes.h"

namespace espalier::detection {
namespace {

// Those with the smallest draws, in ascending order of their numbers.
at::Tensor some_of(const at::Tensor& numbers, const at::Tensor& draws, int64_t count) {
  if (numbers.size(0) <= count) return numbers;
  const at::Tensor order = at::argsort(draws.index_select(0, numbers), /*stable=*/true, 0, /*descending=*/false);
  return std::get<0>(numbers.index_select(0, order.slice(0, 0, count)).sort());
}

}  // namespace

at::Tensor match_boxes(const at::Tensor& boxes, const at::Tensor& objects, const MatchOptions& o) {
  const c10::NoGradGuard no_grad;
  const at::Tensor matched = at::full({boxes.size(0)}, neither, boxes.options().dtype(at::kLong));
  if (objects.size(0) == 0 || boxes.size(0) == 0) return matched.fill_(background);
  const at::Tensor overlaps = pairwise_iou(boxes, objects);
  const auto [best, object] = overlaps.max(1);
  matched.masked_fill_(best < o.negative, background);
  at::Tensor result = at::where(best >= o.positive, object, matched);
  if (!o.best_of_each) return result;
  const at::Tensor best_of_object = std::get<0>(overlaps.max(0)).cpu();
  for (int64_t i = 0; i < objects.size(0); ++i) {
    const double most = best_of_object[i].item<double>();
    if (most < o.least) continue;
    result.masked_fill_(overlaps.select(1, i) == most, i);
  }
  return result;
}

Drawn draw_boxes(const at::Tensor& matched, const at::Tensor& draws, int64_t count, double positive) {
  const c10::NoGradGuard no_grad;
  const auto most = static_cast<int64_t>(std::floor(static_cast<double>(count) * positive));
  const at::Tensor objects = some_of(at::nonzero(matched >= 0).squeeze(1), draws, most);
  const int64_t left = std::max<int64_t>(0, count - objects.size(0));
  return {objects, some_of(at::nonzero(matched == background).squeeze(1), draws, left)};
}

}  // namespace espalier::detection
