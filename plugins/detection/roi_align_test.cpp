#include "roi_align.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

at::Tensor regions_of(std::vector<double> numbers) {
  return at::tensor(numbers, at::kDouble).reshape({-1, 5});
}

at::Tensor random_regions(int64_t count, int64_t batch) {
  const at::Tensor corner = at::rand({count, 2}, at::kDouble) * 140 - 20;
  return at::cat(
      {at::randint(0, batch, {count, 1}, at::kDouble), corner, corner + at::rand({count, 2}, at::kDouble) * 90}, 1);
}

// Interpolation is exact on a map that is linear in both directions: each cell has the value at its centre, whatever
// the number of points. A pixel at x lies at x / 4 - 0.5 of the map.
TEST(RoiAlign, IsExactOnALinearMap) {
  const at::Tensor y = at::arange(30, at::kDouble).unsqueeze(1), x = at::arange(40, at::kDouble).unsqueeze(0);
  const at::Tensor features = (2 * x + 3 * y + 1).reshape({1, 1, 30, 40});
  const at::Tensor regions = regions_of({0, 20, 12, 76, 100});  // columns 4.5 to 18.5 and rows 2.5 to 24.5 of the map
  for (const int64_t samples : {0, 1, 2, 5}) {
    const at::Tensor got = roi_align(features, regions, {.height = 4, .width = 7, .scale = 0.25, .samples = samples});
    for (int64_t row = 0; row < 4; ++row) {
      for (int64_t column = 0; column < 7; ++column) {
        const double at_x = 4.5 + (static_cast<double>(column) + 0.5) * 2;
        const double at_y = 2.5 + (static_cast<double>(row) + 0.5) * 5.5;
        EXPECT_NEAR(got[0][0][row][column].item<double>(), 2 * at_x + 3 * at_y + 1, 1e-10);
      }
    }
  }
}

TEST(RoiAlign, TakesPlacesOutsideAsTheBorderAndThenAsZero) {
  const at::Tensor features = at::full({1, 2, 6, 8}, 3.0, at::kDouble);
  const RoiAlign one{.height = 1, .width = 1, .samples = 1};
  // Centres at 0.5, at -0.75, and at -1.5 of the map.
  EXPECT_EQ(roi_align(features, regions_of({0, 0.5, 0.5, 1.5, 1.5}), one)[0][1].item<double>(), 3);
  EXPECT_EQ(roi_align(features, regions_of({0, -1, 0, 0.5, 2}), one)[0][1].item<double>(), 3);
  EXPECT_EQ(roi_align(features, regions_of({0, -3, 0, 1, 2}), one)[0][1].item<double>(), 0);
  // An empty region has no points to take a mean of.
  const at::Tensor empty = regions_of({0, 3, 3, 3, 3});
  EXPECT_EQ(roi_align(features, empty, {.height = 1, .width = 1})[0][0].item<double>(), 0);
  EXPECT_EQ(roi_align(features, empty, {.height = 1, .width = 1, .aligned = false})[0][0].item<double>(), 3);
}

// The result is linear in the features, so for any g and x: g . align(x) = gradient(g) . x.
TEST(RoiAlign, HasTheTransposedMapAsGradient) {
  at::manual_seed(0);
  const at::Tensor regions = random_regions(20, 3);
  for (const int64_t samples : {0, 3}) {
    const RoiAlign options{.height = 3, .width = 5, .scale = 0.25, .samples = samples};
    at::Tensor x = at::rand({3, 40, 20, 25}, at::kDouble).requires_grad_();
    const at::Tensor value = roi_align(x, regions, options);
    const at::Tensor g = at::rand(value.sizes(), at::kDouble);
    const at::Tensor gradient = torch::autograd::grad({value}, {x}, {g})[0];
    const auto left = (g * value).sum().item<double>(), right = (gradient * x).sum().item<double>();
    EXPECT_NEAR(left, right, 1e-12 * std::abs(left));
    // Of one element, by a difference, which is exact but for rounding.
    const auto [batch, channel, row, column] = std::tuple(1, 37, 11, 9);
    at::Tensor moved = x.detach().clone();
    moved[batch][channel][row][column] += 1;
    EXPECT_NEAR((g * (roi_align(moved, regions, options) - value.detach())).sum().item<double>(),
                gradient[batch][channel][row][column].item<double>(), 1e-9);
  }
}

TEST(RoiAlign, GivesTheSameBytesOnAnyNumberOfThreads) {
  at::manual_seed(1);
  const at::Tensor regions = random_regions(30, 2).to(at::kFloat), features = at::rand({2, 70, 20, 25});
  const RoiAlign options{.scale = 0.25};
  const int threads = at::get_num_threads();
  at::Tensor value, gradient;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    const at::Tensor again = roi_align(features, regions, options);
    const at::Tensor gradient_again = roi_align_backward(again, regions, options, 2, 20, 25);
    if (count > 1) {
      EXPECT_TRUE(again.equal(value));
      EXPECT_TRUE(gradient_again.equal(gradient));
    }
    value = again;
    gradient = gradient_again;
  }
  at::set_num_threads(threads);
  // Nor does it matter how the features lie in memory.
  EXPECT_TRUE(roi_align(features.contiguous(at::MemoryFormat::ChannelsLast), regions, options).equal(value));
}

TEST(RoiAlign, RefusesWhatDoesNotFit) {
  const at::Tensor features = at::rand({2, 3, 8, 8}, at::kDouble);
  const auto error = [&](const at::Tensor& regions) {
    try {
      roi_align(features, regions, {});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(error(regions_of({0, 0, 0, 4, 4, 2, 0, 0, 4, 4})), testing::HasSubstr("region 1 of image 2"));
  EXPECT_THAT(error(regions_of({0, 0, NAN, 4, 4})), testing::HasSubstr("region 0"));
  EXPECT_THAT(error(regions_of({0, 0, 0, 1e9, 4})), testing::HasSubstr("no part of an image"));
  EXPECT_THAT(error(at::rand({2, 4}, at::kDouble)), testing::HasSubstr("regions [n, 5]"));
  EXPECT_THAT(error(at::rand({2, 5})), testing::HasSubstr("one type"));
}

}  // namespace
}  // namespace espalier::detection
