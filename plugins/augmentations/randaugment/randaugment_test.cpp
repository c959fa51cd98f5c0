#include "randaugment.h"

#include <set>

#include "../augmentation_reference.h"

namespace espalier {
namespace {

using randaugment::Draw;
using randaugment::Settings;

std::vector<std::vector<Draw>> draws_of(const ImageBatch& batch, const Settings& s) {
  std::vector<std::vector<Draw>> draws;
  for (const RandomKey key : batch.keys) draws.push_back(randaugment::draws_of(s, key));
  return draws;
}

Value written(const std::vector<std::vector<Draw>>& draws, const Settings& s) {
  Value all = Value::list();
  for (const std::vector<Draw>& of_image : draws) {
    Value steps = Value::list();
    for (const Draw& d : of_image)
      steps.push_back(Value(std::vector<int64_t>{d.operation, static_cast<int64_t>(d.negative)}));
    all.push_back(steps);
  }
  return Value::map({{"draws", all},
                     {"magnitude", s.magnitude},
                     {"bins", s.bins},
                     {"interpolation", s.bilinear ? "bilinear" : "nearest"}});
}

std::string options_of(const Settings& s) {
  return R"("operations": )" + std::to_string(s.operations) + R"(, "magnitude": )" + std::to_string(s.magnitude) +
         R"(, "bins": )" + std::to_string(s.bins) + R"(, "interpolation": ")" + (s.bilinear ? "bilinear" : "nearest") +
         "\"";
}

TEST(RandAugment, EqualsTheTranscriptionByteForByte) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const at::Tensor bytes = sample_bytes(160, 3, 24, 20);
  for (const Settings& s : {Settings{}, Settings{2, 30, 31, false}, Settings{1, 20, 31, false},
                            Settings{3, 0, 2, false}, Settings{2, 9, 31, true}, Settings{1, 4, 11, true}}) {
    const ImageBatch batch = batch_of(bytes, at::kFloat);
    const std::vector<std::vector<Draw>> draws = draws_of(batch, s);
    std::set<std::pair<int, bool>> drawn;
    for (const std::vector<Draw>& of_image : draws)
      for (const Draw& d : of_image) drawn.emplace(d.operation, d.negative);
    EXPECT_EQ(drawn.size(), 23U);  // nine have two signs
    const at::Tensor expected = python_gives("randaugment", written(draws, s), {bytes}, bytes.sizes().vec());
    const ImageBatch normalised = batch_of(expected, at::kFloat);
    EXPECT_EQ(
        (changed(*augmentation("randaugment", options_of(s)), batch).images != normalised.images).sum().item<int64_t>(),
        0)
        << options_of(s);
    // As other devices do it.
    at::Tensor tensors = bytes.to(at::kFloat);
    randaugment::augment(tensors, draws, s);
    EXPECT_EQ((tensors.to(at::kDouble) != expected).sum().item<int64_t>(), 0) << options_of(s);
  }
}

TEST(RandAugment, TakesOtherImages) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const Settings s{.operations = 2, .magnitude = 9, .bins = 31, .bilinear = false};
  for (const auto& [channels, height, width] : {std::tuple(1, 13, 17), std::tuple(3, 2, 9), std::tuple(1, 9, 2)}) {
    const at::Tensor bytes = sample_bytes(80, channels, height, width);
    const ImageBatch batch = batch_of(bytes, at::kDouble);
    const std::vector<std::vector<Draw>> draws = draws_of(batch, s);
    const at::Tensor expected = python_gives("randaugment", written(draws, s), {bytes}, bytes.sizes().vec());
    EXPECT_LE(largest_difference(units_of(changed(*augmentation("randaugment"), batch)) * 255, expected), 1e-4);
    at::Tensor tensors = bytes.to(at::kFloat);
    randaugment::augment(tensors, draws, s);
    EXPECT_EQ(largest_difference(tensors, expected), 0);
  }
}

// Within five deviations.
TEST(RandAugment, DrawsOperationsAndSignsUniformly) {
  constexpr int count = 14000;
  std::vector<std::array<int, 2>> times(randaugment::operations);
  for (uint64_t i = 0; i < count / 2; ++i)
    for (const Draw& d : randaugment::draws_of({}, RandomKey(6).with(i))) ++times[d.operation][d.negative ? 1 : 0];
  for (size_t k = 0; k < times.size(); ++k) {
    const auto [positive, negative] = times[k];
    EXPECT_NEAR(positive + negative, count / 14, 5 * std::sqrt(count / 14)) << k;
    if (k >= randaugment::shear_x && k <= randaugment::sharpness) {
      EXPECT_NEAR(positive, negative, 5 * std::sqrt(count / 14)) << k;
    } else {
      EXPECT_EQ(negative, 0) << k;
    }
  }
}

TEST(RandAugment, ImagesDependOnTheirOwnKeys) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble})
    for (const std::string interpolation : {"nearest", "bilinear"})
      expect_images_of_their_own_keys(*augmentation("randaugment", R"("interpolation": ")" + interpolation + "\""),
                                      batch_of(sample_bytes(24, 3, 9, 7), type));
}

TEST(RandAugment, LeavesImagesThatDrawTheIdentity) {
  const Settings s{.operations = 1};
  ImageBatch batch = batch_of(sample_bytes(60, 3, 8, 8), at::kFloat);
  batch.images.add_(0.003);  // between two bytes
  const at::Tensor after = changed(*augmentation("randaugment", R"("operations": 1)"), batch).images;
  int64_t identities = 0;
  for (int64_t i = 0; i < 60; ++i) {
    const bool identity =
        randaugment::draws_of(s, batch.keys[static_cast<size_t>(i)])[0].operation == randaugment::identity;
    identities += identity ? 1 : 0;
    EXPECT_EQ(same_bytes(after[i], batch.images[i]), identity);
  }
  EXPECT_GT(identities, 0);
}

TEST(RandAugment, RefusesWhatItCannotChange) {
  EXPECT_THAT(refusal("randaugment", R"("magnitude": 31)"), testing::HasSubstr("not less than bins: 31"));
  EXPECT_THAT(refusal("randaugment", "", {4, 8, 8}), testing::HasSubstr("1 or 3 channels"));
}

}  // namespace
}  // namespace espalier
