#include "../mixing_reference.h"

namespace espalier {
namespace {

TEST(Mixup, EqualsTheTranscription) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const int64_t count : {6, 7, 1}) {  // the one in the middle of seven is its own partner
      const ImageBatch batch = batch_of(sample_bytes(count, 3, 6, 5), type);
      const double share = mixing::share_of(0.8, 1, batch.keys[0].with("mixup"));
      const ImageBatch after = changed(*augmentation("mixup"), batch);
      expect_equal(after, transcribed("mixup", batch, Value::map({{"share", share}})), type);
      EXPECT_TRUE(count == 1 || !after.images.equal(batch.images));
    }
  }
}

}  // namespace
}  // namespace espalier
