#include "color_jitter.h"

#include <array>

#include "../augmentation_reference.h"

namespace espalier {
namespace {

using color_jitter::Draw;
using color_jitter::Strengths;

constexpr const char* options = R"("brightness": 0.6, "contrast": 1.5, "saturation": 0.8, "hue": 0.5)";
constexpr Strengths strengths = {0.6, 1.5, 0.8, 0.5};

std::vector<Draw> draws_of(const ImageBatch& batch, const Strengths& s = strengths) {
  std::vector<Draw> draws;
  for (const RandomKey key : batch.keys) draws.push_back(color_jitter::draw_of(s, key));
  return draws;
}

Value written(const std::vector<Draw>& draws, const Strengths& s = strengths) {
  constexpr const char* names[] = {"brightness", "contrast", "saturation", "hue"};
  Value all = Value::list();
  for (const Draw& d : draws) {
    Value steps = Value::list();
    for (const int k : d.order) {
      const auto operation = static_cast<size_t>(k);
      if (s[operation] != 0) steps.push_back(Value(Value::List{names[operation], d.factor[operation]}));
    }
    all.push_back(steps);
  }
  return Value::map({{"draws", all}});
}

TEST(ColorJitter, EqualsTheTranscription) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const int64_t channels : {3, 1}) {
    const ImageBatch batch = batch_of(sample_bytes(48, channels, 12, 10), at::kDouble);
    const at::Tensor units = units_of(batch).clamp(0, 1);
    const std::vector<Draw> draws = draws_of(batch);
    const at::Tensor expected = python_gives("color_jitter", written(draws), {units}, units.sizes().vec());
    EXPECT_GT(largest_difference(expected, units), 0.5);
    const auto jitter = augmentation("color_jitter", options);
    EXPECT_LE(largest_difference(units_of(changed(*jitter, batch)), expected), 1e-12);
    ImageBatch single = batch;
    single.images = batch.images.to(at::kFloat);
    EXPECT_LE(largest_difference(units_of(changed(*jitter, single)), expected), 3e-6);
    // As other devices do it.
    at::Tensor tensors = units.clone();
    color_jitter::jitter(tensors, strengths, draws);
    EXPECT_LE(largest_difference(tensors, expected), 1e-12);
  }
}

TEST(ColorJitter, LeavesOutWhatHasNoStrength) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const ImageBatch batch = batch_of(sample_bytes(8, 3, 6, 6), at::kDouble);
  const at::Tensor units = units_of(batch).clamp(0, 1);
  for (const Strengths& s : {Strengths{0.4, 0, 0, 0}, {0, 0.4, 0, 0}, {0, 0, 0.4, 0}, {0, 0, 0, 0.2}}) {
    const Value draws = written(draws_of(batch, s), s);
    ASSERT_EQ(draws.at("draws").as_list()[0].size(), 1U);
    std::ostringstream given;
    given << R"("brightness": )" << s[0] << R"(, "contrast": )" << s[1] << R"(, "saturation": )" << s[2]
          << R"(, "hue": )" << s[3];
    EXPECT_LE(largest_difference(units_of(changed(*augmentation("color_jitter", given.str()), batch)),
                                 python_gives("color_jitter", draws, {units}, units.sizes().vec())),
              1e-12);
  }
}

// The means of uniform draws, and each of the 24 orders as often as the others: within five deviations.
TEST(ColorJitter, DrawsFactorsAndOrdersUniformly) {
  constexpr int count = 24000;
  const Strengths s = {0.4, 1.5, 0.8, 0.1};
  std::map<std::array<int, 4>, int> orders;
  std::array<double, 4> sums{}, least{9, 9, 9, 9}, most{-9, -9, -9, -9};
  for (uint64_t i = 0; i < count; ++i) {
    const Draw d = color_jitter::draw_of(s, RandomKey(3).with(i));
    ++orders[d.order];
    for (size_t k = 0; k < 4; ++k) {
      sums[k] += d.factor[k];
      least[k] = std::min(least[k], d.factor[k]);
      most[k] = std::max(most[k], d.factor[k]);
    }
  }
  EXPECT_EQ(orders.size(), 24U);
  for (const auto& [order, times] : orders) EXPECT_NEAR(times, count / 24, 5 * std::sqrt(count / 24));
  const std::array<double, 4> low = {0.6, 0, 0.2, -0.1}, high = {1.4, 2.5, 1.8, 0.1};
  for (size_t k = 0; k < 4; ++k) {
    const double width = high[k] - low[k];
    EXPECT_NEAR(sums[k] / count, (low[k] + high[k]) / 2, 5 * width / std::sqrt(12.0 * count)) << k;
    EXPECT_GE(least[k], low[k]);
    EXPECT_LT(least[k], low[k] + width / 1000);
    EXPECT_LE(most[k], high[k]);
    EXPECT_GT(most[k], high[k] - width / 1000);
  }
}

TEST(ColorJitter, ImagesDependOnTheirOwnKeys) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble})
    for (const int64_t channels : {3, 1})
      expect_images_of_their_own_keys(*augmentation("color_jitter", options),
                                      batch_of(sample_bytes(12, channels, 9, 7), type));
}

TEST(ColorJitter, RefusesWhatItCannotChange) {
  EXPECT_THAT(refusal("color_jitter", R"("brightness": 0, "contrast": 0, "saturation": 0)"),
              testing::HasSubstr("changes nothing"));
  EXPECT_THAT(refusal("color_jitter", "", {4, 8, 8}), testing::HasSubstr("1 or 3 channels"));
  EXPECT_THAT(refusal("color_jitter", R"("brightness": 0, "contrast": 0)", {1, 8, 8}),
              testing::HasSubstr("no saturation and no hue"));
}

}  // namespace
}  // namespace espalier
