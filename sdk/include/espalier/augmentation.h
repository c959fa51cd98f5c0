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
  at::Tensor images;  // [batch, channels, height, width], float32 or float64, channels_last, normalised
  // Class numbers, int64 [batch]; or probabilities, float32 [batch, classes], once labels are mixed.
  at::Tensor targets;
  int64_t classes = 0;          // how many classes there are
  std::vector<RandomKey> keys;  // one for each image: all that is random is drawn from these
  // The normalised values of a black pixel (byte 0), one for each channel; `white` has those of byte 255.
  std::vector<double> black;
  // Those of white pixels.
  std::vector<double> white;
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
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "augmentation";
  // Throws Error if it would leave nothing of images of this size.
  virtual void check(const InputSpec& /*image*/) const {}
  // Sets its part of the pass that all images go through, and returns true; apply() is then never called. This pass
  // comes before all other augmentations: crop, flip, rotation, cutout.
  virtual bool join(ImageTransform& /*pass*/) const { return false; }
  // Changes images, in place or by others of the same shape, without autograd, on the device where they are. It is
  // called in the order in which the recipe lists the augmentations. It must not wait for the device.
  virtual void apply(ImageBatch& batch) const = 0;
};

}  // namespace espalier
