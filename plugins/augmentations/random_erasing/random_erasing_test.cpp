#include "random_erasing.h"

#include "../augmentation_reference.h"

namespace espalier {
namespace {

using random_erasing::Box;
using random_erasing::Settings;

TEST(RandomErasing, DrawsTheRectanglesOfTheTranscription) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  constexpr int64_t count = 400, attempts = 10;
  // The last one seldom fits, and so needs all attempts.
  for (const Settings& s :
       {Settings{1, {0.02, 0.33}, {0.3, 3.3}}, Settings{1, {0.1, 0.1}, {1, 1}}, Settings{1, {0.2, 1}, {0.1, 10}}}) {
    const int64_t height = 24, width = 18;
    const at::Tensor numbers = at::empty({count, attempts, 4}, at::kDouble);
    at::Tensor ours = at::empty({count, 4}, at::kDouble);
    for (int64_t i = 0; i < count; ++i) {
      const RandomKey key = RandomKey(2).with(static_cast<uint64_t>(i));
      for (int64_t a = 0; a < attempts; ++a) {
        const Random4 r = philox(key.value(), static_cast<uint64_t>(a + 1));
        for (int64_t k = 0; k < 4; ++k)
          numbers[i][a][k] = k < 2 ? static_cast<double>(unit_float(r.v[k])) : r.v[k] * 0x1p-32;
      }
      const Box b = random_erasing::box_of(s, key, height, width);
      ours[i][0] = b.top, ours[i][1] = b.left, ours[i][2] = b.height, ours[i][3] = b.width;
    }
    const Value options = Value::map({{"height", height},
                                      {"width", width},
                                      {"scale", std::vector<double>{s.scale[0], s.scale[1]}},
                                      {"ratio", std::vector<double>{s.ratio[0], s.ratio[1]}}});
    EXPECT_TRUE(ours.equal(python_gives("random_erasing", options, {numbers}, {count, 4})));
    EXPECT_GT(ours.select(1, 2).count_nonzero().item<int64_t>(), count / 2);
  }
}

TEST(RandomErasing, ErasesTheRectangleAndNothingElse) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const std::string value : {"zero", "random", "color"}) {
      const ImageBatch before = batch_of(sample_bytes(64, 3, 16, 12), type);
      const ImageBatch after =
          changed(*augmentation("random_erasing", R"("probability": 0.5, "value": ")" + value + "\""), before);
      int64_t erased = 0;
      for (int64_t i = 0; i < 64; ++i) {
        const Box b = random_erasing::box_of({.probability = 0.5}, before.keys[static_cast<size_t>(i)], 16, 12);
        at::Tensor expected = before.images[i].clone();
        at::Tensor part = expected.narrow(1, b.top, b.height).narrow(2, b.left, b.width);
        const at::Tensor made = after.images[i].narrow(1, b.top, b.height).narrow(2, b.left, b.width);
        if (b.height > 0) {
          ++erased;
          if (value == "zero") {
            EXPECT_EQ(made.abs().max().template item<double>(), 0);
          } else if (value == "color") {
            EXPECT_TRUE(made.equal(made.slice(1, 0, 1).slice(2, 0, 1).expand_as(made)));
            EXPECT_FALSE(made[0].equal(made[1]));
          } else {
            EXPECT_FALSE(made.slice(1, 0, 1).equal(made.slice(1, 1, 2)));
          }
        }
        part.copy_(made);
        EXPECT_TRUE(same_bytes(expected, after.images[i]));
      }
      EXPECT_NEAR(erased, 32, 5 * 4);
    }
  }
}

// Mean, variance, and the shares within one and two deviations, of 60000 draws: within five deviations of theirs.
TEST(RandomErasing, NoiseIsNormallyDistributed) {
  for (const int64_t channels : {1, 3, 4}) {
    const int64_t count = 60000;
    const at::Tensor noise = at::empty({count / channels, channels}, at::kDouble);
    random_erasing::fill_noise(RandomKey(4), count / channels, channels, noise.data_ptr<double>());
    const double n = count;
    EXPECT_NEAR(noise.mean().item<double>(), 0, 5 / std::sqrt(n));
    EXPECT_NEAR(noise.square().mean().item<double>(), 1, 5 * std::sqrt(2 / n));
    for (const double limit : {1.0, 2.0}) {
      const double share = std::erf(limit / std::sqrt(2.0));
      EXPECT_NEAR((noise.abs() < limit).to(at::kDouble).mean().item<double>(), share,
                  5 * std::sqrt(share * (1 - share) / n));
    }
    if (channels > 1) {
      EXPECT_NEAR((noise.select(1, 0) * noise.select(1, 1)).mean().item<double>(), 0, 5 / std::sqrt(n / channels));
    }
  }
}

TEST(RandomErasing, ImagesDependOnTheirOwnKeys) {
  for (const std::string value : {"zero", "random", "color"})
    for (const at::ScalarType type : {at::kFloat, at::kDouble})
      expect_images_of_their_own_keys(
          *augmentation("random_erasing", R"("probability": 0.7, "value": ")" + value + "\""),
          batch_of(sample_bytes(12, 3, 9, 11), type));
}

TEST(RandomErasing, WithoutProbabilityNothingChanges) {
  const ImageBatch batch = batch_of(sample_bytes(8, 3, 9, 7), at::kFloat);
  const ImageBatch after = changed(*augmentation("random_erasing", R"("probability": 0)"), batch);
  EXPECT_TRUE(same_bytes(after.images, batch.images));
  EXPECT_TRUE(same_bytes(after.targets, batch.targets));
}

TEST(RandomErasing, RefusesRectanglesThatFitNowhere) {
  EXPECT_THAT(refusal("random_erasing", R"("scale": [0.5])"), testing::HasSubstr("two numbers"));
  EXPECT_THAT(refusal("random_erasing", R"("ratio": [2, 1])"), testing::HasSubstr("two numbers"));
  EXPECT_THAT(refusal("random_erasing", R"("scale": [1, 1])"), testing::HasSubstr("8 x 8"));
  EXPECT_THAT(refusal("random_erasing", R"("scale": [0.5, 0.5], "ratio": [3, 3])"), testing::HasSubstr("8 x 8"));
  EXPECT_THAT(refusal("random_erasing", "", {3, 1, 8}), testing::HasSubstr("1 x 8"));
}

}  // namespace
}  // namespace espalier
