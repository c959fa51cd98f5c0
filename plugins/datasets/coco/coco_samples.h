#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <vector>

#include <espalier/dataset.h>

#include "annotations.h"

namespace espalier {

// How the images of `coco` are read.
struct CocoReading {
  std::vector<int64_t> sides;  // the shorter side of a training image, one of these at random
  int64_t test_side = 800;     // that of a test image
  int64_t longest = 1333;      // no side becomes longer
  double flip = 0.5;           // probability that a training image is mirrored
  bool masks = true;           // whether there are masks
};

// The images of one part with their objects, which are read when they are needed (targets.h says what a sample holds).
class CocoSamples final : public Samples {
 public:
  // images: those that the part has, by their places in `all`.
  CocoSamples(std::shared_ptr<const detection::Instances> all, std::vector<int64_t> images,
              std::filesystem::path folder, CocoReading reading);

  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  Sample sample(int64_t number, bool training, RandomKey key) const override;
  void identify(const std::function<void(std::string_view)>& add) const override;

 private:
  std::shared_ptr<const detection::Instances> all_;
  std::vector<int64_t> images_;
  std::filesystem::path folder_;
  CocoReading reading_;
};

// Returns the box of an annotation as far as it lies in the image: left, upper, right and lower edge. It has no area
// where the right edge is not right of the left one, or the lower one not below the upper one.
std::array<double, 4> edges_in(const detection::Annotation& annotation, const detection::ImageEntry& image);
// Returns whether the annotation is an object to be found: it is no crowd, and its box in the image has an area.
bool is_object(const detection::Annotation& annotation, const detection::ImageEntry& image);

}  // namespace espalier
