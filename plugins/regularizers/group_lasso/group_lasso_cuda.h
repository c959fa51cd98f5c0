#pragma once

#include <cstdint>

namespace espalier {

// Element i of piece j of group k lies at k * size + j * stride + i.
struct LassoGroups {
  int64_t count = 0;
  int64_t size = 0;
  int64_t pieces = 1;
  int64_t stride = 0;
};

#if ESPALIER_WITH_CUDA
// g += weight * w / norm for each group; adds weight * norm to *total.
template <class T>
void launch_group_lasso(const T* w, T* g, LassoGroups groups, double weight, double* total, int device);
#else
template <class T>
void launch_group_lasso(const T*, T*, LassoGroups, double, double*, int) {}
#endif

}  // namespace espalier
