#pragma once

// mixup and cutmix against their transcriptions.
#include <string>

#include "augmentation_reference.h"
#include "cutmix/cutmix.h"
#include "mixing.h"

namespace espalier {

struct Parts {
  at::Tensor images, targets;
};

// What a transcription makes of a batch that has drawn this.
inline Parts transcribed(const std::string& name, const ImageBatch& batch, Value options) {
  options["classes"] = batch.classes;
  const int64_t numbers = batch.images.numel(), count = batch.images.size(0);
  const at::Tensor all = python_gives(name, options, {batch.images, batch.targets}, {numbers + count * batch.classes});
  return {all.slice(0, 0, numbers).view(batch.images.sizes()),
          all.slice(0, numbers, all.size(0)).view({count, batch.classes})};
}

inline void expect_equal(const ImageBatch& ours, const Parts& theirs, at::ScalarType type) {
  EXPECT_LE(largest_difference(ours.images, theirs.images), type == at::kDouble ? 1e-15 : 1e-6);
  EXPECT_EQ(ours.images.scalar_type(), type);
  EXPECT_LE(largest_difference(ours.targets, theirs.targets), 1e-6);
  EXPECT_EQ(ours.targets.scalar_type(), at::kFloat);
}

// What the transcription of cutmix needs of what the first key draws.
inline Value cutmix_draws(const ImageBatch& batch) {
  const RandomKey key = batch.keys[0].with("cutmix");
  const Random4 place = philox(key.with("box").value(), 0);
  return Value::map({{"share", mixing::share_of(1, 1, key)}, {"y", place.v[0] * 0x1p-32}, {"x", place.v[1] * 0x1p-32}});
}

}  // namespace espalier
