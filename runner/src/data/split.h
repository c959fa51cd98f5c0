#pragma once

#include <string>
#include <vector>

#include "espalier/dataset.h"
#include "espalier/registry.h"
#include "recipe/recipe.h"

namespace espalier {

// The samples with these numbers (int64 [n], on the tensors' device) of tensors [N, ...]; where NAME.offsets says where
// the rows of each sample begin, all of its rows.
NamedTensors rows_of(const NamedTensors& tensors, const at::Tensor& numbers);

// The samples of a split with these numbers.
Split subset(const Split& split, std::vector<int64_t> numbers);

// How often each class occurs among the targets: int64 [classes] on the CPU.
at::Tensor class_counts(const NamedTensors& targets, const TargetSpec& spec);

// The same split; what its samples throw when they are read says which component of the recipe they come from.
Split labelled_split(Split split, const Registered& component, const Location& where);

// What a data set says and loads is as training needs it: finite means, deviations above zero; types, sizes and counts
// that fit, targets in range. Throws InputError naming data set, part and value.
void check_info(const DatasetInfo& info, const Registered& component, const Location& where);
void check_split(const Split& split, const std::string& part, const DatasetInfo& info, const Registered& component,
                 const Location& where);

// What the data set says of itself, with images as the section resizes them. Throws InputError if they are none.
DatasetInfo resized(DatasetInfo info, const DataSection& section);

// How many of so many samples a pass takes: with `drop_last` those of full batches.
int64_t used_samples(int64_t samples, const DataSection& data);
// Of so many samples, if a step is of so many batches; all passes of an epoch together.
int64_t steps_per_epoch(int64_t samples, const DataSection& data, int64_t batches = 1);

}  // namespace espalier
