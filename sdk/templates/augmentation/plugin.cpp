#include <espalier/augmentation.h>
#include <espalier/plugin.h>

namespace espalier {

// Negates an image with some probability: black becomes white.
class @CLASS@ final : public Augmentation {
 public:
  struct Options {
    double probability = 0.1;

    static void declare(Declare<Options>& p) {
      p("probability", &Options::probability, at_least(0), at_most(1), "probability of the negative of an image");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  void apply(ImageBatch& batch) const override {
    for (size_t i = 0; i < batch.keys.size(); ++i) {
      // All that is random comes from the image's own key.
      if (unit_float(philox(batch.keys[i].value(), 0).v[0]) >= o_.probability) continue;
      at::Tensor image = batch.images[static_cast<int64_t>(i)];
      for (size_t c = 0; c < batch.black.size(); ++c) {
        at::Tensor channel = image[static_cast<int64_t>(c)];
        channel.neg_().add_(batch.black[c] + batch.white[c]);
      }
    }
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "the negative of an image at random"));

}  // namespace espalier
