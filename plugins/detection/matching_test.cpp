#include "matching.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::detection {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int64_t> numbers(const at::Tensor& x) {
  return {x.const_data_ptr<int64_t>(), x.const_data_ptr<int64_t>() + x.numel()};
}

// Boxes of one row of pixels from `left` to `right`: the IoU is that of the intervals.
at::Tensor intervals(const std::vector<std::pair<double, double>>& all) {
  std::vector<double> edges;
  for (const auto& [left, right] : all) edges.insert(edges.end(), {left, 0, right, 1});
  return at::tensor(edges, at::kDouble).reshape({-1, 4});
}

TEST(MatchBoxes, GivesEachBoxTheObjectThatItMeetsBest) {
  const at::Tensor objects = intervals({{0, 10}, {20, 30}});
  // IoUs with the nearest object: 1, 0.8, 0.5, 0.4, 0, and 0.9 with the second.
  const at::Tensor boxes = intervals({{0, 10}, {0, 8}, {0, 5}, {0, 4}, {12, 18}, {21, 30}});
  EXPECT_THAT(numbers(match_boxes(boxes, objects, {.positive = 0.5, .negative = 0.5})),
              ElementsAre(0, 0, 0, background, background, 1));
  EXPECT_THAT(numbers(match_boxes(boxes, objects, {.positive = 0.7, .negative = 0.45})),
              ElementsAre(0, 0, neither, background, background, 1));
  EXPECT_THAT(numbers(match_boxes(boxes, at::empty({0, 4}, at::kDouble), {})),
              ElementsAre(background, background, background, background, background, background));
}

TEST(MatchBoxes, FindsABoxForEachObjectWhereThatIsWanted) {
  // The best of the first object are two boxes of IoU 0.5; the second object's best has 0.2.
  const at::Tensor objects = intervals({{0, 10}, {20, 30}});
  const at::Tensor boxes = intervals({{0, 5}, {5, 10}, {20, 22}, {0, 4}});
  const MatchOptions options{.positive = 0.7, .negative = 0.3, .best_of_each = true, .least = 0.3};
  EXPECT_THAT(numbers(match_boxes(boxes, objects, options)), ElementsAre(0, 0, background, neither));
  MatchOptions lower = options;
  lower.least = 0.1;
  EXPECT_THAT(numbers(match_boxes(boxes, objects, lower)), ElementsAre(0, 0, 1, neither));
}

TEST(DrawBoxes, TakesAShareOfObjectsAndFillsUpWithBackground) {
  const at::Tensor matched = at::tensor({0, -1, 1, -2, -1, -1, 2, -1}, at::kLong);
  const at::Tensor draws = at::tensor({0.9, 0.8, 0.1, 0.0, 0.7, 0.2, 0.5, 0.3});
  // A quarter of 4 is one object, that with the smallest number; then the three of the background.
  const Drawn some = draw_boxes(matched, draws, 4, 0.25);
  EXPECT_THAT(numbers(some.objects), ElementsAre(2));
  EXPECT_THAT(numbers(some.background), ElementsAre(4, 5, 7));
  const Drawn all = draw_boxes(matched, draws, 100, 0.5);
  EXPECT_THAT(numbers(all.objects), ElementsAre(0, 2, 6));
  EXPECT_THAT(numbers(all.background), ElementsAre(1, 4, 5, 7));
  EXPECT_THAT(numbers(draw_boxes(at::full({3}, neither, at::kLong), draws.slice(0, 0, 3), 4, 0.5).background),
              IsEmpty());
}

}  // namespace
}  // namespace espalier::detection
