#pragma once

#include <cstdint>

#include "adam.h"

namespace espalier {

#if ESPALIER_WITH_CUDA
template <class T>
void launch_adam(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* m, T* v,
                 const AdamFormula<T>& formula, int device);
#else
template <class T>
void launch_adam(int64_t, const double*, const double*, T*, const T*, T*, T*, const AdamFormula<T>&, int) {}
#endif

}  // namespace espalier
