#include "data/scaling.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/data_pipeline.h"
#include "data/split.h"
#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;

TEST(Scaling, BringsFeaturesToMeanZeroAndDeviationOne) {
  // 1, 3, 5, 7 has mean 4 and deviation sqrt(5); what never changes keeps a deviation of 1.
  const at::Tensor x = at::tensor({1.0, 9.0, 3.0, 9.0, 5.0, 9.0, 7.0, 9.0}, at::kDouble).reshape({4, 2});
  const Scaling s = scaling_of(x);
  EXPECT_THAT(s.mean, ElementsAre(4, 9));
  EXPECT_NEAR(s.deviation[0], std::sqrt(5.0), 1e-15);
  EXPECT_EQ(s.deviation[1], 1);
  const Split split = scaled({.inputs = {{"input", x}}, .targets = {{"target", x.clone()}}}, {{"input", s}});
  EXPECT_NEAR(split.input()[0][0].item<double>(), -3 / std::sqrt(5.0), 1e-15);
  EXPECT_EQ(split.input().select(1, 1).abs().max().item<double>(), 0);
  EXPECT_TRUE(split.target().equal(x)) << "what is not named stays";
}

TEST(Scaling, OfImagesIsThatOfTheirChannels) {
  at::Tensor images = at::zeros({2, 2, 2, 2}, at::kByte);
  images.select(1, 1).fill_(255);
  images[0][0][0][0] = 255;
  const Scaling s = scaling_of(images);
  EXPECT_NEAR(s.mean[0], 1 / 8.0, 1e-15);
  EXPECT_NEAR(s.deviation[0], std::sqrt(7.0) / 8, 1e-15);
  EXPECT_EQ(s.mean[1], 1);
  EXPECT_EQ(s.deviation[1], 1);
  const Normalization n = normalization_of({{"input", s}}, {.channels = 2, .height = 2, .width = 2});
  EXPECT_NEAR(255 * n.scale[0] + n.shift[0], (1 - s.mean[0]) / s.deviation[0], 1e-6) << "a white pixel, in float";
}

NormalizeRule rule(bool standardize) {
  NormalizeRule s;
  s.standardize = standardize;
  return s;
}

TEST(Scaling, IsOfWhatTheRecipeOrTheDataSetSay) {
  DatasetInfo info;
  info.input = {.channels = 2};
  info.target = {1, task::regression};
  EXPECT_TRUE(standardized({}, info).empty());
  EXPECT_THAT(standardized({rule(true), {}}, info), ElementsAre("input"));
  info.standardize = {"input", "target"};
  EXPECT_THAT(standardized({}, info), ElementsAre("input", "target"));
  NormalizeSection off;
  off.input.on = false;
  EXPECT_TRUE(standardized(off, info).empty()) << "`normalize: false` is meant for targets too";
  NormalizeSection named;
  named.by_name = {{"target", rule(true)}};
  info.standardize.clear();
  EXPECT_THAT(standardized(named, info), ElementsAre("target"));
  NormalizeSection numbers;
  numbers.input.mean = {1, 2};
  numbers.input.deviation = {3, 4};
  const Scalings given = scalings(numbers, info, {});
  ASSERT_EQ(given.size(), 1U);
  EXPECT_THAT(given[0].second.mean, ElementsAre(1, 2));
  numbers.input.mean = {1, 2, 3};
  EXPECT_THROW(scalings(numbers, info, {}), Error);
  numbers.input.mean = {7};
  EXPECT_THAT(scalings(numbers, info, {})[0].second.mean, ElementsAre(7, 7)) << "one number is for all";
  EXPECT_TRUE(scalings({}, info, {}).empty()) << "vectors without known means stay as they are";
  info.input = {.channels = 1, .height = 4, .width = 4};
  EXPECT_THROW(scalings({}, info, {}), Error) << "images need them";
}

TEST(Scaling, IsTheSameFromData) {
  const Scalings all{{"input", {{0.1, -3}, {2, 1e-3}}}, {"target", {{7}, {0.25}}}};
  const Scalings back = scalings_from(from_json(to_json(to_value(all))));
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(back[0].first, "input");
  EXPECT_EQ(back[0].second.mean, all[0].second.mean);
  EXPECT_EQ(back[1].second.deviation, all[1].second.deviation);
}

// Boxes: one of the first sample, none of the second, three of the third.
NamedTensors boxes() {
  return {{"target", at::arange(3, at::kLong)},
          {"boxes", at::arange(8, at::kFloat).reshape({4, 2})},
          {"boxes.offsets", at::tensor({0, 1, 1, 4}, at::kLong)}};
}

TEST(Rows, OfSamplesWithDifferentNumbersStandBelowEachOther) {
  const NamedTensors some = rows_of(boxes(), at::tensor({2, 1, 0}, at::kLong));
  EXPECT_TRUE(find_tensor(some, "target")->equal(at::tensor({2, 1, 0}, at::kLong)));
  EXPECT_TRUE(find_tensor(some, "boxes")->equal(at::tensor({2, 3, 4, 5, 6, 7, 0, 1}, at::kFloat).reshape({4, 2})));
  EXPECT_TRUE(find_tensor(some, "boxes.offsets")->equal(at::tensor({0, 3, 3, 4}, at::kLong)));
}

TEST(DataPipeline, TakesVectorsSeveralInputsAndStructuredTargets) {
  const at::Tensor x = at::arange(6, at::kDouble).reshape({3, 2});
  const at::Tensor neighbours = at::arange(27, at::kFloat).reshape({3, 3, 3});
  Split split{.inputs = {{"input", x}, {"neighbours", neighbours}}, .targets = boxes()};
  DataPipeline pipeline(split, {}, at::kCPU, at::kFloat);
  EXPECT_EQ(pipeline.size(), 3);
  pipeline.set_order({2, 0, 1});
  const Batch b = pipeline.batch(0, 2, {}, RandomKey());
  EXPECT_EQ(b.size(), 2);
  EXPECT_EQ(b.input().scalar_type(), at::kFloat);
  EXPECT_TRUE(b.input().equal(at::tensor({4, 5, 0, 1}, at::kFloat).reshape({2, 2})));
  EXPECT_TRUE(b.input("neighbours")[1].equal(neighbours[0]));
  EXPECT_TRUE(b.target("boxes.offsets").equal(at::tensor({0, 3, 4}, at::kLong)));
  // All in order is what there is: nothing is copied.
  pipeline.set_order({0, 1, 2});
  EXPECT_TRUE(pipeline.batch(0, 3, {}, RandomKey()).input().is_same(pipeline.plain_batch(0, 3).input()));
}

}  // namespace
}  // namespace espalier
