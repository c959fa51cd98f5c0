// What mixup and cutmix share.
#include <functional>
#include <numbers>

#include "mixing_reference.h"

namespace espalier {
namespace {

// The largest distance between the distribution function of some numbers and the true one (Kolmogorov and Smirnov).
double distance(std::vector<double> numbers, const std::function<double(double)>& truth) {
  std::ranges::sort(numbers);
  const auto n = static_cast<double>(numbers.size());
  double largest = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const double at = truth(numbers[i]), before = static_cast<double>(i) / n;
    largest = std::max({largest, std::abs(at - before), std::abs(at - before - 1 / n)});
  }
  return largest;
}

// Where the beta distribution has a closed form. A distance above 1.95 / sqrt(n) comes once in a thousand times.
TEST(Mixing, SharesHaveTheBetaDistribution) {
  const std::vector<std::pair<double, std::function<double(double)>>> cases = {
      {0.5, [](double x) { return 2 / std::numbers::pi * std::asin(std::sqrt(x)); }},
      {1, [](double x) { return x; }},
      {2, [](double x) { return x * x * (3 - 2 * x); }},
      {3, [](double x) { return x * x * x * (10 - 15 * x + 6 * x * x); }}};
  constexpr uint64_t count = 20000;
  for (const auto& [alpha, truth] : cases) {
    std::vector<double> numbers;
    for (uint64_t i = 0; i < count; ++i) numbers.push_back(mixing::beta(alpha, RandomKey(8).with(i)));
    EXPECT_LT(distance(numbers, truth), 1.95 / std::sqrt(count)) << alpha;
  }
}

// Mean and variance for every alpha; of a small one nearly all shares are 0 or 1, and none is lost.
TEST(Mixing, SharesHaveTheMomentsOfTheBetaDistribution) {
  constexpr uint64_t count = 20000;
  for (const double alpha : {1e-3, 0.1, 0.2, 0.8, 5.0, 100.0}) {
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const double share = mixing::beta(alpha, RandomKey(9).with(i));
      ASSERT_TRUE(share >= 0 && share <= 1);
      sum += share, squares += (share - 0.5) * (share - 0.5);
    }
    const double variance = 1 / (4 * (2 * alpha + 1));
    EXPECT_NEAR(sum / count, 0.5, 5 * std::sqrt(variance / count)) << alpha;
    EXPECT_NEAR(squares / count, variance, 5 * std::sqrt(2.0 / count) * variance) << alpha;
  }
}

TEST(Mixing, BothMixWhatIsMixedAlready) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const ImageBatch batch = batch_of(sample_bytes(6, 3, 12, 9), at::kDouble);
  const ImageBatch once = changed(*augmentation("mixup"), batch), twice = changed(*augmentation("cutmix"), once);
  expect_equal(twice, transcribed("cutmix", once, cutmix_draws(once)), at::kDouble);
  EXPECT_LE(largest_difference(twice.targets.sum(1), at::full({6}, 1.0)), 1e-6);
  EXPECT_EQ(once.targets.scalar_type(), at::kFloat);
  EXPECT_FALSE(once.targets.equal(twice.targets));
}

TEST(Mixing, WithoutProbabilityNothingChanges) {
  for (const std::string name : {"mixup", "cutmix"}) {
    const ImageBatch batch = batch_of(sample_bytes(6, 3, 12, 9), at::kFloat);
    ImageBatch after = batch;
    augmentation(name, R"("probability": 0)")->apply(after);
    EXPECT_TRUE(after.images.is_same(batch.images));
    EXPECT_TRUE(after.targets.is_same(batch.targets));
    EXPECT_TRUE(same_bytes(after.images, batch_of(sample_bytes(6, 3, 12, 9), at::kFloat).images));
    EXPECT_EQ(after.targets.scalar_type(), at::kLong);
  }
}

TEST(Mixing, BatchesAreMixedWithTheirProbability) {
  for (const std::string name : {"mixup", "cutmix"}) {
    const auto mix = augmentation(name, R"("probability": 0.3)");
    int64_t mixed = 0;
    for (uint64_t i = 0; i < 300; ++i) {
      ImageBatch batch = batch_of(sample_bytes(2, 1, 64, 64), at::kFloat);
      batch.keys[0] = RandomKey(30).with(i);
      mix->apply(batch);
      mixed += batch.targets.scalar_type() == at::kFloat ? 1 : 0;
    }
    // 90 of 300, of which cutmix leaves out rectangles without area; five deviations.
    EXPECT_NEAR(mixed, 90, 5 * std::sqrt(300 * 0.3 * 0.7)) << name;
  }
}

TEST(Mixing, TheFirstKeyDecides) {
  for (const std::string name : {"mixup", "cutmix"}) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      const auto mix = augmentation(name);
      const ImageBatch batch = batch_of(sample_bytes(5, 3, 12, 9), type);
      ImageBatch other = batch;
      other.keys[1] = RandomKey(99);
      other.images = batch.images.contiguous();
      const ImageBatch first = changed(*mix, batch), again = changed(*mix, other);
      EXPECT_TRUE(same_bytes(first.images, again.images)) << name;
      EXPECT_TRUE(same_bytes(first.targets, again.targets)) << name;
      EXPECT_FALSE(first.images.equal(batch.images)) << name;
    }
  }
}

TEST(Mixing, RefusesWhatCannotBeMixed) {
  for (const std::string name : {"mixup", "cutmix"}) {
    ImageBatch batch = batch_of(sample_bytes(4, 3, 12, 9), at::kFloat);
    batch.classes = 0;
    EXPECT_THROW(augmentation(name)->apply(batch), Error) << name;
    ImageBatch empty;
    EXPECT_NO_THROW(augmentation(name)->apply(empty)) << name;
  }
}

}  // namespace
}  // namespace espalier
