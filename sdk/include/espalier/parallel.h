#pragma once

#include <cstdint>
#include <functional>

#include "espalier/api.h"

namespace espalier {

// Calls body(begin, end) on pieces of [0, n), on the threads of LibTorch. Each piece holds at least `grain` elements.
// (A plugin that calls at::parallel_for itself is silently serial unless it is compiled with OpenMP.)
ESPALIER_API void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace espalier
