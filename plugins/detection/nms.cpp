#include "nms.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include <espalier/error.h>
#include <espalier/parallel.h>

namespace espalier::detection {
namespace {

// So many boxes are compared among themselves one after the other, and then with all later ones at once.
constexpr int64_t block = 64;
// Comparisons below this number are not worth a thread.
constexpr int64_t grain = 512;

// Boxes in the order of their scores, edge by edge, so that a loop over them is vectorised.
template <class T>
struct Columns {
  std::vector<T> left, upper, right, lower, area;
  std::vector<int64_t> classes;  // empty: all are of one

  void add(const T* box) {
    left.push_back(box[0]);
    upper.push_back(box[1]);
    right.push_back(box[2]);
    lower.push_back(box[3]);
    area.push_back((box[2] - box[0]) * (box[3] - box[1]));
  }
  bool overlaps(size_t a, size_t b, double threshold) const {
    const T width = std::max(T{0}, std::min(right[a], right[b]) - std::max(left[a], left[b]));
    const T height = std::max(T{0}, std::min(lower[a], lower[b]) - std::max(upper[a], upper[b]));
    const T common = width * height;
    return static_cast<double>(common / (area[a] + area[b] - common)) > threshold &&
           (classes.empty() || classes[a] == classes[b]);
  }
};

template <class T>
std::vector<int64_t> kept(const Columns<T>& boxes, double threshold) {
  const auto count = static_cast<int64_t>(boxes.left.size());
  std::vector<uint8_t> out(static_cast<size_t>(count), 0);
  std::vector<int64_t> result;
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(begin + block, count);
    const size_t first = result.size();
    for (int64_t i = begin; i < end; ++i) {
      if (out[static_cast<size_t>(i)] != 0) continue;
      result.push_back(i);
      for (int64_t j = i + 1; j < end; ++j)
        out[static_cast<size_t>(j)] |= boxes.overlaps(static_cast<size_t>(i), static_cast<size_t>(j), threshold);
    }
    // Whether a later box goes does not depend on the other later ones, so pieces of them can be judged side by side.
    parallel_for(count - end, grain, [&](int64_t from, int64_t to) {
      for (int64_t j = end + from; j < end + to; ++j) {
        for (size_t k = first; k < result.size() && out[static_cast<size_t>(j)] == 0; ++k)
          out[static_cast<size_t>(j)] |=
              boxes.overlaps(static_cast<size_t>(result[k]), static_cast<size_t>(j), threshold);
      }
    });
  }
  return result;
}

at::Tensor suppress(const at::Tensor& given, const at::Tensor& given_scores, const at::Tensor* given_classes,
                    double threshold) {
  const int64_t count = given.dim() == 2 ? given.size(0) : -1;
  const bool fits = count >= 0 && given.size(1) == 4 && given_scores.dim() == 1 && given_scores.size(0) == count &&
                    (!given_classes || (given_classes->dim() == 1 && given_classes->size(0) == count &&
                                        given_classes->scalar_type() == at::kLong));
  if (!fits)
    throw Error("non-maximum suppression needs boxes [n, 4], as many scores [n] and, if any, int64 classes [n]");
  if (given.scalar_type() != at::kFloat && given.scalar_type() != at::kDouble)
    throw Error(std::string("non-maximum suppression needs boxes of float32 or float64, and these are ") +
                c10::toString(given.scalar_type()));
  const at::Tensor boxes = given.detach().cpu().contiguous();
  const at::Tensor scores = given_scores.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* score = scores.const_data_ptr<double>();
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  if (std::any_of(score, score + count, [](double s) { return s != s; }))
    throw Error("non-maximum suppression got a score that is not a number; the network's outputs are damaged");
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return score[a] > score[b]; });
  std::vector<int64_t> places;
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] {
    Columns<scalar_t> columns;
    for (const int64_t i : order) columns.add(boxes.const_data_ptr<scalar_t>() + 4 * i);
    if (given_classes) {
      const at::Tensor classes = given_classes->cpu().contiguous();
      for (const int64_t i : order) columns.classes.push_back(classes.const_data_ptr<int64_t>()[i]);
    }
    places = kept(columns, threshold);
  });
  const at::Tensor result = at::empty({std::ssize(places)}, at::kLong);
  std::ranges::transform(places, result.mutable_data_ptr<int64_t>(),
                         [&](int64_t place) { return order[static_cast<size_t>(place)]; });
  return result.to(given.device());
}

}  // namespace

at::Tensor nms(const at::Tensor& boxes, const at::Tensor& scores, double threshold) {
  return suppress(boxes, scores, nullptr, threshold);
}

at::Tensor nms_by_class(const at::Tensor& boxes, const at::Tensor& scores, const at::Tensor& classes,
                        double threshold) {
  return suppress(boxes, scores, &classes, threshold);
}

}  // namespace espalier::detection
