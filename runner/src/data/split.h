#pragma once

#include <string>
#include <vector>

#include "espalier/dataset.h"
#include "espalier/registry.h"
#include "recipe/recipe.h"

namespace espalier {

// The samples of a split with these numbers.
Split subset(const Split& split, std::vector<int64_t> numbers);

// The same split; what its samples throw when they are read says which component of the recipe they come from.
Split labelled_split(Split split, const Registered& component, const Location& where);

// What a data set says and loads is as training needs it: finite means, deviations above zero; types, sizes and counts
// that fit, targets in range. Throws InputError naming data set, part and value.
void check_info(const DatasetInfo& info, const Registered& component, const Location& where);
void check_split(const Split& split, const std::string& part, const DatasetInfo& info, const Registered& component,
                 const Location& where);

// Of so many samples.
int64_t steps_per_epoch(int64_t samples, const DataSection& data);

}  // namespace espalier
