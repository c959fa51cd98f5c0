#include "../mixing_reference.h"

namespace espalier {
namespace {

TEST(Cutmix, EqualsTheTranscription) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  int64_t empty = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const at::ScalarType type = seed % 2 == 0 ? at::kFloat : at::kDouble;
    ImageBatch batch = batch_of(sample_bytes(5, 3, 12, 9), type);
    batch.keys[0] = RandomKey(20).with(seed);
    const ImageBatch after = changed(*augmentation("cutmix"), batch);
    const Parts theirs = transcribed("cutmix", batch, cutmix_draws(batch));
    EXPECT_EQ(largest_difference(after.images, theirs.images), 0);
    if (after.images.equal(batch.images)) {  // a rectangle without area: labels stay, too
      ++empty;
      EXPECT_TRUE(same_bytes(after.targets, batch.targets));
      EXPECT_EQ(largest_difference(theirs.targets.argmax(1), batch.targets), 0);
    } else {
      expect_equal(after, theirs, type);
    }
  }
  EXPECT_LT(empty, 6);
}

// The rectangle is within the image, and the targets have its true area; a rectangle of the image's aspect ratio.
TEST(Cutmix, RectanglesAreCutAtTheBorders) {
  int64_t cut = 0;
  for (uint64_t i = 0; i < 500; ++i) {
    const double share = static_cast<double>(i) / 500;
    const cutmix::Box b = cutmix::box_of(share, RandomKey(1).with(i), 40, 30);
    ASSERT_TRUE(0 <= b.top && b.top <= b.bottom && b.bottom <= 40 && 0 <= b.left && b.left <= b.right && b.right <= 30);
    const double rest = cutmix::rest_of(b, 40, 30), lost = std::sqrt(1 - share);
    EXPECT_GE(rest, share - 1e-12);
    const bool inside = b.top > 0 && b.bottom < 40 && b.left > 0 && b.right < 30;
    // Sides are rounded down.
    if (inside) {
      EXPECT_LE(rest, 1 - std::max(lost - 1.0 / 40, 0.0) * std::max(lost - 1.0 / 30, 0.0) + 1e-12);
    } else {
      ++cut;
    }
  }
  EXPECT_GT(cut, 100);
}

TEST(Cutmix, RefusesImagesWithoutRoom) {
  EXPECT_THAT(refusal("cutmix", "", {3, 1, 8}), testing::HasSubstr("1 x 8"));
}

}  // namespace
}  // namespace espalier
