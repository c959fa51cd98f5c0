#include <algorithm>

#include <espalier/augmentation.h>
#include <espalier/isa.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

#include "../image_memory.h"
#include "../mixing.h"

namespace espalier {

namespace {

// Mixes pairs of images from both ends of the batch, each with the other. The pair in the middle of an odd number is
// one image with itself.
template <class T>
void mix(T* images, int64_t count, int64_t size, double share) {
  const T own = static_cast<T>(share), other = static_cast<T>(1 - share);
  parallel_for(count / 2 + count % 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* first = images + i * size;
      T* second = images + (count - 1 - i) * size;
      if (first == second) {
        vector_loop(0, size, [=](int64_t j) { first[j] = first[j] * own + first[j] * other; });
      } else {
        vector_loop(0, size, [=](int64_t j) {
          const T a = first[j], b = second[j];
          first[j] = a * own + b * other;
          second[j] = b * own + a * other;
        });
      }
    }
  });
}

}  // namespace

// Zhang et al. 2018, one draw for each batch: images and their targets become share * own + (1 - share) * partner's,
// where the partner of an image is the one at the same place from the end of the batch.
class Mixup final : public Augmentation {
 public:
  struct Options {
    double alpha = 0.8;
    double probability = 1;

    static void declare(Declare<Options>& p) {
      p("alpha", &Options::alpha, above(0),
        "Both parameters of the beta distribution from which a batch draws the share that an image keeps; 1: all "
        "shares are equally likely, less: most shares are near 0 or 1.");
      p("probability", &Options::probability, at_least(0), at_most(1), "Probability that a batch is mixed.");
    }
  };

  explicit Mixup(Options options) : o_(options) {}

  void apply(ImageBatch& batch) const override {
    if (batch.keys.empty()) return;
    const double share = mixing::share_of(o_.alpha, o_.probability, batch.keys[0].with("mixup"));
    if (share == 1) return;
    mixing::mix_targets(batch, share);
    make_dense(batch);
    const int64_t count = batch.images.size(0);
    if (batch.images.is_cpu()) {
      with_numbers(batch.images, [&](auto* images) { mix(images, count, batch.images.numel() / count, share); });
    } else {
      batch.images.copy_(batch.images * share + batch.images.flip(0) * (1 - share));
    }
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("mixup", "1.0.0",
                component<Mixup>("mixup", "pairs of images that are mixed, with their targets (Zhang et al. 2018)"));

}  // namespace espalier
