#include "cutmix.h"

#include <espalier/augmentation.h>
#include <espalier/plugin.h>

#include "../mixing.h"

namespace espalier {

// Yun et al. 2019, one draw for each batch: a rectangle of each image comes from its partner, the image at the same
// place from the end of the batch. Targets are mixed by the area that the rectangle has within the image.
class Cutmix final : public Augmentation {
 public:
  struct Options {
    double alpha = 1;
    double probability = 1;

    static void declare(Declare<Options>& p) {
      p("alpha", &Options::alpha, above(0),
        "Both parameters of the beta distribution from which a batch draws the share of the area that an image keeps; "
        "1: all shares are equally likely, less: most shares are near 0 or 1.");
      p("probability", &Options::probability, at_least(0), at_most(1), "Probability that a batch is mixed.");
    }
  };

  explicit Cutmix(Options options) : o_(options) {}

  void check(const InputSpec& image) const override {
    if (std::min(image.height, image.width) < 2) {
      throw Error("'cutmix' changes nothing of images of " + std::to_string(image.height) + " x " +
                  std::to_string(image.width) + " pixels: a rectangle is smaller than the image");
    }
  }

  void apply(ImageBatch& batch) const override {
    if (batch.keys.empty()) return;
    const RandomKey key = batch.keys[0].with("cutmix");
    const double drawn = mixing::share_of(o_.alpha, o_.probability, key);
    if (drawn == 1) return;
    const int64_t height = batch.images.size(2), width = batch.images.size(3);
    const cutmix::Box box = cutmix::box_of(drawn, key, height, width);
    const double share = cutmix::rest_of(box, height, width);
    if (share == 1) return;  // a rectangle without area
    mixing::mix_targets(batch, share);
    at::Tensor part = batch.images.slice(2, box.top, box.bottom).slice(3, box.left, box.right);
    part.copy_(part.flip(0));
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("cutmix", "1.0.0",
                component<Cutmix>("cutmix",
                                  "a rectangle of each image that comes from another, and mixed targets "
                                  "(Yun et al. 2019)"));

}  // namespace espalier
