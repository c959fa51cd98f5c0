// What holds for every augmentation, on images of 3 x 16 x 16.
#include "espalier/augmentation.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/random_fill.h"

namespace espalier {

namespace {

constexpr int64_t count = 12;

// Images and keys `begin` to `end` of the same twelve.
ImageBatch images(int64_t begin, int64_t end) {
  ImageBatch batch;
  batch.images = normal({count, 3, 16, 16}, 1, RandomKey(3).with("images"))
                     .to(at::kFloat)
                     .slice(0, begin, end)
                     .contiguous(at::MemoryFormat::ChannelsLast)
                     .clone();
  batch.targets = at::arange(begin, end, at::kLong).remainder(3);
  batch.classes = 3;
  for (int64_t i = begin; i < end; ++i) batch.keys.push_back(RandomKey(7).with(static_cast<uint64_t>(i)));
  batch.black = {-2, -2, -2};
  batch.white = {2, 2, 2};
  return batch;
}

ImageBatch changed(const Registered& r, int64_t begin, int64_t end) {
  const std::unique_ptr<Augmentation> augmentation = make_example<Augmentation>(r);
  ImageTransform pass;
  if (augmentation->join(pass)) throw CheckSkipped("it is done in the one pass of all images");
  const c10::NoGradGuard no_grad;
  ImageBatch batch = images(begin, end);
  augmentation->apply(batch);
  return batch;
}

std::string check_shapes(const Registered& r) {
  const ImageBatch before = images(0, count), after = changed(r, 0, count);
  expect(after.images.sizes() == before.images.sizes() && after.images.scalar_type() == at::kFloat,
         "images of the same shape and type, float32 [12, 3, 16, 16]",
         std::string(after.images.toString()) + " of " + std::to_string(after.images.dim()) + " dimensions");
  expect(after.images.isfinite().all().item<bool>(), "finite values", "some that are not");
  expect(after.targets.size(0) == count, "a target for each image", std::to_string(after.targets.size(0)));
  return "";
}

std::string check_repeats(const Registered& r) {
  expect(changed(r, 0, count).images.equal(changed(r, 0, count).images),
         "the same images from the same keys, bit for bit", "others");
  return "";
}

std::string check_batches(const Registered& r) {
  const at::Tensor whole = changed(r, 0, count).images;
  std::vector<at::Tensor> parts;
  for (int64_t i = 0; i < count; ++i) parts.push_back(changed(r, i, i + 1).images);
  if (whole.equal(at::cat(parts))) return "";
  // Those that mix the images of a batch depend on it by their nature.
  return "an image depends on the others of its batch";
}

}  // namespace

std::vector<Check> augmentation_checks() {
  return {{Augmentation::kind, "shapes", "shape, type and number of targets stay, values are finite", check_shapes},
          {Augmentation::kind, "repeats", "the same keys give the same images", check_repeats},
          {Augmentation::kind, "batches", "whether an image depends on the others of its batch", check_batches}};
}

}  // namespace espalier
