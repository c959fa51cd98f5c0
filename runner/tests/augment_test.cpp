#include <set>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "data/data_pipeline.h"

namespace espalier {
namespace {

// Images whose bytes tell where they came from: 8 x 8, two channels.
Split numbered(int64_t n) {
  return {
      .inputs = {{"input", at::arange(n * 2 * 8 * 8, at::kLong).remainder(251).to(at::kByte).reshape({n, 2, 8, 8})}},
      .targets = {{"target", at::arange(n, at::kLong).remainder(3)}}};
}

Split split_of(const at::Tensor& image) {
  return {.inputs = {{"input", image}}, .targets = {{"target", at::zeros({1}, at::kLong)}}};
}

Normalization plain() {
  Normalization n{};
  for (float& s : n.scale) s = 1;
  return n;
}

at::Tensor one(const Split& split, const ImageTransform& a, uint64_t seed) {
  return DataPipeline(split, plain(), at::kCPU, at::kDouble).batch(0, 1, a, RandomKey(seed)).input()[0];
}

TEST(DataPipeline, GathersAndNormalisesInTheGivenOrder) {
  const Split split = numbered(5);
  Normalization n = plain();
  n.scale[1] = 0.5F;
  n.shift[1] = -3;
  DataPipeline pipeline(split, n, at::kCPU, at::kFloat);
  pipeline.set_order({4, 0, 2});
  const Batch b = pipeline.batch(1, 3, {}, RandomKey());
  EXPECT_TRUE(b.input().is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(b.input()[1][0].equal(split.input()[2][0].to(at::kFloat)));
  EXPECT_TRUE(b.input()[0][1].equal(split.input()[0][1].to(at::kFloat) * 0.5F - 3));
  EXPECT_TRUE(b.target().equal(split.target().index_select(0, at::arange(0, 3, 2, at::kLong))));
}

TEST(DataPipeline, FlipsWithTheProbability) {
  const Split split = numbered(1);
  const at::Tensor image = split.input()[0].to(at::kDouble);
  int flipped = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    const at::Tensor x = one(split, {.crop = 0, .flip = 0.25F, .rotate = 0, .cutout = 0}, seed);
    if (x.equal(image.flip(2))) {
      ++flipped;
    } else {
      EXPECT_TRUE(x.equal(image));
    }
  }
  EXPECT_NEAR(flipped, 100, 30);  // 3.5 standard deviations
}

TEST(DataPipeline, CropsAreShiftsOfThePaddedImage) {
  const Split split = numbered(1);
  at::Tensor padded = at::zeros({2, 12, 12}, at::kDouble);
  padded.slice(1, 2, 10).slice(2, 2, 10).copy_(split.input()[0]);
  std::set<int> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const at::Tensor x = one(split, {.crop = 2, .flip = 0, .rotate = 0, .cutout = 0}, seed);
    int found = -1;
    for (int64_t dy = 0; dy < 5; ++dy) {
      for (int64_t dx = 0; dx < 5; ++dx) {
        if (x.equal(padded.slice(1, dy, dy + 8).slice(2, dx, dx + 8))) found = static_cast<int>(dy * 5 + dx);
      }
    }
    ASSERT_GE(found, 0) << "not a crop";
    seen.insert(found);
  }
  EXPECT_EQ(seen.size(), 25U) << "all shifts occur";
}

TEST(DataPipeline, CutoutIsASquareOfZerosAfterNormalisation) {
  Split split = split_of(at::full({1, 1, 9, 9}, 7, at::kByte));
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const at::Tensor x = one(split, {.crop = 0, .flip = 0, .rotate = 0, .cutout = 4}, seed)[0];
    const at::Tensor cut = x.eq(0);
    const int64_t rows = cut.any(1).sum().item<int64_t>();
    const int64_t columns = cut.any(0).sum().item<int64_t>();
    EXPECT_EQ(cut.sum().item<int64_t>(), rows * columns) << "one rectangle";
    EXPECT_TRUE(rows >= 2 && rows <= 4 && columns >= 2 && columns <= 4) << "4, less where it leaves the image";
  }
}

TEST(DataPipeline, RotationKeepsTheCentreAndTurnsBySomeAngle) {
  Split split = split_of(at::zeros({1, 1, 9, 9}, at::kByte));
  split.input()[0][0][4][4] = 200;
  split.input()[0][0][0][4] = 100;  // at the top, four pixels from the centre
  bool left = false;
  bool right = false;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const at::Tensor x = one(split, {.crop = 0, .flip = 0, .rotate = 0.8F, .cutout = 0}, seed)[0];
    EXPECT_EQ(x[4][4].item<double>(), 200);
    left = left || x.slice(1, 0, 4).eq(100).any().item<bool>();
    right = right || x.slice(1, 5, 9).eq(100).any().item<bool>();
    EXPECT_FALSE(x.slice(0, 5, 9).eq(100).any().item<bool>()) << "46 degrees at most";
  }
  EXPECT_TRUE(left && right);
}

TEST(DataPipeline, ASampleDrawsTheSameWhateverItsBatchAndTheThreads) {
  const Split split = numbered(64);
  const ImageTransform a{.crop = 2, .flip = 0.5F, .rotate = 0.3F, .cutout = 3};
  DataPipeline pipeline(split, plain(), at::kCPU, at::kFloat);
  const at::Tensor whole = pipeline.batch(0, 64, a, RandomKey(5)).input();
  EXPECT_TRUE(pipeline.batch(10, 20, a, RandomKey(5)).input().equal(whole.slice(0, 10, 20)));
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(pipeline.batch(0, 64, a, RandomKey(5)).input().equal(whole));
  at::set_num_threads(threads);
  EXPECT_FALSE(pipeline.batch(0, 64, a, RandomKey(6)).input().equal(whole));
}

}  // namespace
}  // namespace espalier
