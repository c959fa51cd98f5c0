#include <ATen/ops/full.h>
#include <espalier/augmentation.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, MakesBlackWhite) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const auto negative = Registry::instance().create<Augmentation>(from_json(R"({"use": "@NAME@", "probability": 1})"));
  ImageBatch batch;
  batch.images = at::full({2, 1, 3, 3}, -0.5);
  batch.targets = at::full({2}, 0, at::kLong);
  batch.keys = {RandomKey(1), RandomKey(2)};
  batch.black = {-0.5};
  batch.white = {2};
  negative->apply(batch);
  EXPECT_TRUE(batch.images.equal(at::full({2, 1, 3, 3}, 2.0)));
}

}  // namespace
}  // namespace espalier
