#include "nms.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>

#include "boxes.h"

namespace espalier::detection {
namespace {

using testing::ElementsAre;

std::vector<int64_t> numbers(const at::Tensor& x) {
  return {x.const_data_ptr<int64_t>(), x.const_data_ptr<int64_t>() + x.numel()};
}

TEST(Nms, KeepsTheBestOfThoseThatOverlap) {
  // B overlaps A by a third and C by a third; A and C do not meet.
  const at::Tensor boxes =
      at::tensor({0.0, 0.0, 10.0, 10.0, 5.0, 0.0, 15.0, 10.0, 10.0, 0.0, 20.0, 10.0}).reshape({3, 4});
  EXPECT_THAT(numbers(nms(boxes, at::tensor({0.9, 0.8, 0.7}), 0.3)), ElementsAre(0, 2));
  EXPECT_THAT(numbers(nms(boxes, at::tensor({0.7, 0.8, 0.9}), 0.3)), ElementsAre(2, 0));
  EXPECT_THAT(numbers(nms(boxes, at::tensor({0.8, 0.9, 0.7}), 0.3)), ElementsAre(1));
  EXPECT_THAT(numbers(nms(boxes, at::tensor({0.8, 0.9, 0.7}), 0.34)), ElementsAre(1, 0, 2));
  EXPECT_THAT(numbers(nms_by_class(boxes, at::tensor({0.8, 0.9, 0.7}), at::tensor({1, 1, 0}, at::kLong), 0.3)),
              ElementsAre(1, 2));
  // Of equal scores the first; an overlap of exactly the threshold is none.
  EXPECT_THAT(numbers(nms(boxes, at::tensor({0.5, 0.5, 0.5}), 0.3)), ElementsAre(0, 2));
  const at::Tensor halves = at::tensor({0.0, 0.0, 10.0, 10.0, 0.0, 0.0, 10.0, 5.0}).reshape({2, 4});
  EXPECT_THAT(numbers(nms(halves, at::tensor({0.9, 0.8}), 0.5)), ElementsAre(0, 1));
  EXPECT_THAT(numbers(nms(halves, at::tensor({0.9, 0.8}), 0.49)), ElementsAre(0));
  EXPECT_THAT(numbers(nms(boxes.slice(0, 0, 0), at::tensor(std::vector<double>{}), 0.5)), ElementsAre());
}

// What is kept overlaps no better kept box of its class, and what is left out overlaps one; only one set is like that.
TEST(Nms, LeavesOutExactlyWhatOverlapsABetterOne) {
  constexpr int64_t count = 900;
  constexpr double threshold = 0.4;
  at::manual_seed(0);
  const at::Tensor corner = at::rand({count, 2}, at::kDouble) * 100;
  const at::Tensor boxes = at::cat({corner, corner + at::rand({count, 2}, at::kDouble) * 60 + 5}, 1);
  const at::Tensor scores = at::rand({count}, at::kDouble), classes = at::randint(0, 3, {count}, at::kLong);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor kept = nms_by_class(boxes, scores, classes, threshold);
  at::set_num_threads(3);
  EXPECT_TRUE(nms_by_class(boxes, scores, classes, threshold).equal(kept));
  at::set_num_threads(threads);
  const at::Tensor sorted = scores.index_select(0, kept);
  EXPECT_TRUE(sorted.slice(0, 1).lt(sorted.slice(0, 0, -1)).all().item<bool>());
  // [all, kept]: which kept box leaves out which other.
  const at::Tensor over = pairwise_iou(boxes, boxes.index_select(0, kept)).gt(threshold) *
                          classes.unsqueeze(1).eq(classes.index_select(0, kept).unsqueeze(0)) *
                          scores.unsqueeze(1).lt(sorted.unsqueeze(0));
  const at::Tensor left_out = over.any(1);
  EXPECT_FALSE(left_out.index_select(0, kept).any().item<bool>());
  EXPECT_EQ(left_out.sum().item<int64_t>(), count - kept.numel());
  EXPECT_GT(kept.numel(), 50);
  EXPECT_LT(kept.numel(), count - 50);
}

TEST(Nms, RefusesWhatDoesNotFit) {
  const at::Tensor boxes = at::rand({3, 4});
  EXPECT_THROW(nms(boxes, at::rand({2}), 0.5), Error);
  EXPECT_THROW(nms(at::rand({3, 5}), at::rand({3}), 0.5), Error);
  EXPECT_THROW(nms(boxes.to(at::kHalf), at::rand({3}), 0.5), Error);
  EXPECT_THROW(nms_by_class(boxes, at::rand({3}), at::rand({3}), 0.5), Error);
  EXPECT_THROW(nms(boxes, at::tensor({0.1, NAN, 0.2}), 0.5), Error);
}

}  // namespace
}  // namespace espalier::detection
