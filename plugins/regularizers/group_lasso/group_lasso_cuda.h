#pragma once

#include <cstdint>

namespace espalier {

#if ESPALIER_WITH_CUDA
// g += weight * w / norm for each of `count` groups of `size` elements; adds weight * norm to *total.
template <class T>
void launch_group_lasso(const T* w, T* g, int64_t count, int64_t size, double weight, double* total, int device);
#else
template <class T>
void launch_group_lasso(const T*, T*, int64_t, int64_t, double, double*, int) {}
#endif

}  // namespace espalier
