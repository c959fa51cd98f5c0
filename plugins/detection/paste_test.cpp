#include "paste.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/grid_sampler_2d.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

// mmdetection samples the small mask at the centres of the image's pixels, as grid_sample does with zeros outside and
// without aligned corners.
TEST(PasteMask, IsAsGridSampleHasIt) {
  constexpr int64_t height = 60, width = 80;
  at::manual_seed(0);
  for (const auto& [left, upper, right, lower] : std::vector<std::array<double, 4>>{
           {10, 5, 50, 40}, {10.3, 5.7, 13.1, 59.2}, {-20, -10, 30, 30}, {60, 20, 130, 90}, {33.2, 20, 33.9, 20.4}}) {
    const at::Tensor values = at::rand({28, 28});
    const at::Tensor x = (at::arange(width, at::kFloat) + 0.5 - left) / (right - left) * 2 - 1;
    const at::Tensor y = (at::arange(height, at::kFloat) + 0.5 - upper) / (lower - upper) * 2 - 1;
    const at::Tensor grid =
        at::stack({x.unsqueeze(0).expand({height, width}), y.unsqueeze(1).expand({height, width})}, -1).unsqueeze(0);
    const at::Tensor expected =
        at::grid_sampler_2d(values.reshape({1, 1, 28, 28}), grid, 0, 0, false)[0][0].contiguous();
    const double box[4] = {left, upper, right, lower};
    const Rle mask = paste_mask(values.const_data_ptr<float>(), 28, 28, box, height, width);
    std::vector<uint8_t> bytes(static_cast<size_t>(height * width));
    decode_mask(mask, bytes.data());
    int64_t inside = 0, compared = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      const float value = expected.const_data_ptr<float>()[i];
      // Places are rounded in float32 there: a few millionths of the box, times the 28 values along it.
      if (std::abs(value - 0.5F) < 1e-3F) continue;
      EXPECT_EQ(bytes[i], value >= 0.5F) << i;
      inside += bytes[i];
      ++compared;
    }
    EXPECT_GT(compared, 4500);
    EXPECT_TRUE(inside > 0 || right - left < 1);
  }
}

TEST(PasteMask, OfAnEmptyBoxIsEmpty) {
  const std::vector<float> ones(4, 1.0F);
  const double none[4] = {5, 5, 5, 9}, outside[4] = {50, 50, 60, 60}, whole[4] = {2, 3, 4, 6},
               damaged[4] = {0, 0, NAN, 1};
  EXPECT_EQ(area_of(paste_mask(ones.data(), 2, 2, none, 10, 10)), 0);
  EXPECT_EQ(area_of(paste_mask(ones.data(), 2, 2, outside, 10, 10)), 0);
  EXPECT_EQ(box_of(paste_mask(ones.data(), 2, 2, whole, 10, 10)), (Xywh{2, 3, 2, 3}));
  EXPECT_THROW(paste_mask(ones.data(), 2, 2, damaged, 10, 10), Error);
}

}  // namespace
}  // namespace espalier::detection
