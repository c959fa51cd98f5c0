#include "boxes.h"

#include <cmath>
#include <functional>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

at::Tensor rows(std::vector<double> numbers) {
  return at::tensor(numbers, at::kDouble).reshape({-1, 4});
}

// Boxes of sides between 1 and 81 pixels.
at::Tensor random_boxes(int64_t count) {
  const at::Tensor corner = at::rand({count, 2}, at::kDouble) * 100;
  return at::cat({corner, corner + at::rand({count, 2}, at::kDouble) * 80 + 1}, 1);
}

double apart(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// The largest difference between the gradient of a sum and its central differences. Steps of 1e-5 pixels: functions of
// this size lose about 1e-10 to rounding, and the third derivatives are below one.
double gradient_error(const std::function<at::Tensor(const at::Tensor&)>& function, const at::Tensor& at) {
  constexpr double step = 1e-5;
  at::Tensor x = at.clone().requires_grad_();
  const at::Tensor gradient = torch::autograd::grad({function(x).sum()}, {x})[0].flatten();
  double worst = 0;
  for (int64_t i = 0; i < gradient.numel(); ++i) {
    const auto moved = [&](double by) {
      at::Tensor y = at.clone();
      y.flatten()[i] += by;
      return function(y).sum().item<double>();
    };
    worst = std::max(worst, std::abs((moved(step) - moved(-step)) / (2 * step) - gradient[i].item<double>()));
  }
  return worst;
}

TEST(Boxes, AreCodedAsDifferences) {
  const at::Tensor box = rows({0, 0, 10, 20}), target = rows({5, 0, 25, 20});
  EXPECT_LT(apart(encode_boxes(box, target), rows({1, 0, std::log(2.0), 0})), 1e-12);
  const BoxCoding coding{.mean = {0.5, 0.5, 0, 0}, .deviation = {0.1, 0.1, 0.2, 0.2}};
  EXPECT_LT(apart(encode_boxes(box, target, coding), rows({5, -5, std::log(2.0) / 0.2, 0})), 1e-12);
  at::manual_seed(0);
  const at::Tensor a = random_boxes(50), b = random_boxes(50);
  EXPECT_LT(apart(decode_boxes(a, encode_boxes(a, b, coding), coding), b), 1e-10);
  // Boxes of two classes side by side.
  const at::Tensor deltas = encode_boxes(a, b);
  EXPECT_LT(apart(decode_boxes(a, at::cat({deltas, deltas * 0}, 1)), at::cat({b, a}, 1)), 1e-10);
}

TEST(Boxes, DecodeWithinLimits) {
  const at::Tensor box = rows({0, 0, 16, 16});
  EXPECT_LT(apart(decode_boxes(box, rows({0, 0, 100, -100})), rows({8 - 500, 8 - 0.128, 8 + 500, 8 + 0.128})), 1e-9);
  EXPECT_LT(
      apart(decode_boxes(box, rows({0, 0, 100, 0}), {}, ImageSize{.height = 12, .width = 300}), rows({0, 0, 300, 12})),
      1e-9);
  EXPECT_THROW(decode_boxes(box, at::rand({1, 6})), Error);
  EXPECT_THROW(encode_boxes(at::rand({1, 5}), box), Error);
}

TEST(Boxes, OverlapByShares) {
  const at::Tensor a = rows({0, 0, 10, 10, 0, 0, 1, 1, 3, 3, 3, 3}), b = rows({5, 0, 15, 10, 3, 0, 4, 1, 3, 3, 3, 3});
  const auto of = [](std::vector<double> numbers) { return at::tensor(numbers, at::kDouble); };
  EXPECT_LT(apart(aligned_iou(a, b), of({1.0 / 3, 0, 0})), 1e-12);
  // Of the square of 4 x 1 around two unit squares, neither covers the half.
  EXPECT_LT(apart(aligned_giou(a, b).slice(0, 0, 2), of({1.0 / 3, -0.5})), 1e-12);
  EXPECT_LT(apart(pairwise_iou(a, b).diagonal(), aligned_iou(a, b)), 1e-15);
  EXPECT_LT(apart(pairwise_giou(a, b).diagonal(), aligned_giou(a, b)), 1e-15);
  EXPECT_LT(apart(box_areas(a), of({100, 1, 0})), 1e-15);
}

TEST(Boxes, HaveGradients) {
  at::manual_seed(1);
  const at::Tensor a = random_boxes(6), b = random_boxes(6);
  EXPECT_LT(gradient_error([&](const at::Tensor& x) { return aligned_giou(x, b); }, a), 1e-7);
  EXPECT_LT(gradient_error([&](const at::Tensor& x) { return aligned_giou(a, x); }, b), 1e-7);
  EXPECT_LT(gradient_error([&](const at::Tensor& x) { return pairwise_iou(x, b); }, a), 1e-7);
  EXPECT_LT(gradient_error([&](const at::Tensor& x) { return encode_boxes(a, x); }, b), 1e-7);
  const BoxCoding coding{.deviation = {0.1, 0.1, 0.2, 0.2}};
  EXPECT_LT(gradient_error([&](const at::Tensor& x) { return aligned_giou(decode_boxes(a, x, coding), b); },
                           encode_boxes(a, b, coding) + 0.1),
            1e-7);
}

TEST(Boxes, AreAnchoredAtEveryPlace) {
  const at::Tensor anchors = make_anchors(2, 3, 4);
  EXPECT_EQ(anchors.sizes(), (std::vector<int64_t>{2 * 3 * 3, 4}));
  EXPECT_EQ(anchors.scalar_type(), at::kFloat);
  // The second row begins with the tenth anchor; the one in the middle of three is a square of 8 strides.
  EXPECT_LT(apart(anchors[10], at::tensor({-16.0, 4.0 - 16, 16.0, 4.0 + 16})), 1e-5);
  EXPECT_LT(apart(anchors[4], at::tensor({4.0 - 16, -16.0, 4.0 + 16, 16.0})), 1e-5);
  const at::Tensor first = anchors.slice(0, 0, 3).to(at::kDouble), sides = first.slice(1, 2, 4) - first.slice(1, 0, 2);
  EXPECT_LT(apart(sides.select(1, 1) / sides.select(1, 0), at::tensor({0.5, 1.0, 2.0}, at::kDouble)), 1e-6);
  EXPECT_LT(apart(box_areas(first), at::full({3}, 1024.0, at::kDouble)), 1e-3);
  EXPECT_LT(first.slice(1, 0, 2).add(first.slice(1, 2, 4)).abs().max().item<double>(), 1e-6);
}

TEST(Boxes, AreLookedAtOnTheLevelOfTheirSize) {
  std::vector<double> numbers;
  for (const double side : {0.0, 55.0, 111.9, 112.0, 223.0, 224.0, 448.0, 5000.0})
    numbers.insert(numbers.end(), {10, 20, 10 + side, 20 + side});
  const at::Tensor levels = feature_levels(rows(numbers), 4);
  EXPECT_TRUE(levels.equal(at::tensor({0, 0, 0, 1, 1, 2, 3, 3}, at::kLong)));
  // Of 64 x 196 pixels, whose area is that of a square of 112.
  EXPECT_EQ(feature_levels(rows({0, 0, 64, 196}), 4).item<int64_t>(), 1);
}

}  // namespace
}  // namespace espalier::detection
