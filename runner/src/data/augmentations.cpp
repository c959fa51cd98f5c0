#include "data/augmentations.h"

#include <numbers>
#include <utility>

#include "espalier/build_config.h"
#include "espalier/error.h"

namespace espalier {

namespace {

// What is done in the one pass over all images (augment.h).
class Joined : public Augmentation {
 public:
  void apply(ImageBatch&) const override {}
};

class Crop final : public Joined {
 public:
  struct Options {
    int64_t padding = 4;
    static void declare(Declare<Options>& p) {
      p("padding", &Options::padding, at_least(1), at_most(256), unit("pixels"),
        "width of the zero padding on every side, from which an image of the old size is cropped at random");
    }
  };
  explicit Crop(Options o) : o_(o) {}
  void check(const InputSpec& image) const override {
    const int64_t side = std::min(image.height, image.width);
    if (o_.padding >= side) {
      throw Error("'crop' by " + std::to_string(o_.padding) + " pixels may leave nothing of images of " +
                  std::to_string(side));
    }
  }
  bool join(ImageTransform& pass) const override {
    pass.crop = static_cast<int>(o_.padding);
    return true;
  }

 private:
  Options o_;
};

class Flip final : public Joined {
 public:
  struct Options {
    double probability = 0.5;
    static void declare(Declare<Options>& p) {
      p("probability", &Options::probability, at_least(0), at_most(1), "probability of a horizontal flip");
    }
  };
  explicit Flip(Options o) : o_(o) {}
  bool join(ImageTransform& pass) const override {
    pass.flip = static_cast<float>(o_.probability);
    return true;
  }

 private:
  Options o_;
};

class Rotate final : public Joined {
 public:
  struct Options {
    double angle = 10;
    static void declare(Declare<Options>& p) {
      p("angle", &Options::angle, at_least(0), at_most(180), unit("degrees"),
        "largest angle of a random rotation to either side");
    }
  };
  explicit Rotate(Options o) : o_(o) {}
  bool join(ImageTransform& pass) const override {
    pass.rotate = static_cast<float>(o_.angle * std::numbers::pi / 180);
    return true;
  }

 private:
  Options o_;
};

class Cutout final : public Joined {
 public:
  struct Options {
    int64_t size = 16;
    static void declare(Declare<Options>& p) {
      p("size", &Options::size, at_least(1), at_most(4096), unit("pixels"), "side of a square of zeros at random");
    }
  };
  explicit Cutout(Options o) : o_(o) {}
  void check(const InputSpec& image) const override {
    const int64_t side = std::max(image.height, image.width);
    if (o_.size >= 2 * side) {
      throw Error("'cutout' of " + std::to_string(o_.size) + " pixels leaves nothing of images of " +
                  std::to_string(side));
    }
  }
  bool join(ImageTransform& pass) const override {
    pass.cutout = static_cast<int>(o_.size);
    return true;
  }

 private:
  Options o_;
};

}  // namespace

void register_augmentations(Registry& registry) {
  const Origin built_in{"espalier", ESPALIER_VERSION, ""};
  registry.add(component<Crop>("crop", "a crop at random of the image with a border of zeros"), built_in);
  registry.add(component<Flip>("flip", "a horizontal flip at random"), built_in);
  registry.add(component<Rotate>("rotate", "a rotation at random; what comes from outside is zero"), built_in);
  registry.add(component<Cutout>("cutout", "a square of zeros at random (DeVries and Taylor 2017)"), built_in);
}

Augmentations::Augmentations(const std::vector<Value>& specs) {
  const Registry& registry = Registry::instance();
  for (const Value& spec : specs) {
    std::shared_ptr<const Augmentation> made = registry.create<Augmentation>(spec);
    if (made->join(pass)) continue;
    others.push_back(std::move(made));
    labels.push_back(registry.at(Augmentation::kind, name_of(spec, Augmentation::kind), spec.location).str());
  }
}

}  // namespace espalier
