#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/builder.h"
#include "espalier/component.h"
#include "espalier/image_transform.h"
#include "espalier/random.h"

namespace espalier {

// A batch of training images on its way to the network.
struct ImageBatch {
  at::Tensor images;            // [batch, channels, height, width], float32 or float64, channels_last, normalised
  at::Tensor targets;           // int64 [batch]
  std::vector<RandomKey> keys;  // one for each image: all that is random is drawn from these
  // The normalised values of a black (byte 0) and of a white (byte 255) pixel, one for each channel.
  std::vector<double> black, white;
};

// A random change of training images. What an image becomes may depend on its key alone: then it is the same whatever
// batch, device or number of threads it is computed with, and in a resumed run. Example, images that are negated with
// probability 0.5:
//
//   void apply(ImageBatch& batch) const override {
//     for (size_t i = 0; i < batch.keys.size(); ++i) {
//       const Random4 draw = philox(batch.keys[i].value(), 0);
//       if (unit_float(draw.v[0]) < 0.5F) batch.images[static_cast<int64_t>(i)].neg_();
//     }
//   }
class ESPALIER_API Augmentation : public Object {
 public:
  static constexpr const char* kind = "augmentation";
  // Throws Error where it would leave nothing of images of this size.
  virtual void check(const InputSpec& /*image*/) const {}
  // Sets its part of the pass that all images go through, and returns true; then apply() is never called. What is done
  // in this pass comes before all other augmentations: crop, then flip, then rotation, then cutout.
  virtual bool join(ImageTransform& /*pass*/) const { return false; }
  // Changes images (in place or by others of the same shape), without autograd, on the device where they are. Called in
  // the order in which the recipe lists the augmentations. Must not synchronise with the device.
  virtual void apply(ImageBatch& batch) const = 0;
};

}  // namespace espalier
