#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/augment.h"
#include "espalier/dataset.h"
#include "recipe/recipe.h"

namespace espalier {

// How one input or target is brought to other numbers: (x - mean) / deviation, one pair for each channel or feature.
struct Scaling {
  std::vector<double> mean, deviation;
};

// Scalings by the names of inputs and targets.
using Scalings = std::vector<std::pair<std::string, Scaling>>;

// Which of them come from the training part: the names that are to be brought to mean 0 and standard deviation 1.
std::vector<std::string> standardized(const NormalizeSection& section, const DatasetInfo& info);

// The mean and the standard deviation (of the whole, not of a sample of it) of each channel of images [N, C, H, W], or
// of each feature [..., F] of what is floating point. Bytes count as numbers of [0, 1]. What never changes keeps a
// deviation of 1.
Scaling scaling_of(const at::Tensor& x);

// The scaling of each input and target: `measured` of those that come from the training part, otherwise that of the
// recipe or of the data set. Throws Error if there are not as many numbers as channels.
Scalings scalings(const NormalizeSection& section, const DatasetInfo& info, const Scalings& measured);

// Of the first input, as images are brought from bytes to numbers: by what is in `all`, or without a change.
Normalization normalization_of(const Scalings& all, const InputSpec& input);

// The split with its floating-point tensors scaled. Bytes stay.
Split scaled(Split split, const Scalings& all);

// For data.json, and from there.
Value to_value(const Scalings& all);
Scalings scalings_from(const Value& value);

}  // namespace espalier
