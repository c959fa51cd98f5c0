#pragma once

#include "data/gather_cuda.h"

namespace espalier {

// Gathers, augments and normalises a batch: out is [count, height, width, channels], float or double.
template <class T>
void gather_on_cpu(const GatherArguments& arguments, T* out);

}  // namespace espalier
