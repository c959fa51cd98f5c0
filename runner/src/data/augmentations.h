#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/augment.h"
#include "espalier/augmentation.h"
#include "espalier/registry.h"

namespace espalier {

// Adds the built-in augmentations: crop, flip, rotate, cutout.
void register_augmentations(Registry& registry);

// The augmentations of a data section, ready to be applied.
struct Augmentations {
  ImageTransform pass;                                      // what those have joined that are done in one pass
  std::vector<std::shared_ptr<const Augmentation>> others;  // that are applied afterwards, in their order
  std::vector<std::string> labels;                          // of others, for errors

  Augmentations() = default;
  Augmentations(const ImageTransform& only) : pass(only) {}  // NOLINT(google-explicit-constructor)
  // Makes them from their specs.
  explicit Augmentations(const std::vector<Value>& specs);
};

}  // namespace espalier
