#pragma once

#include <cstdint>

#include "adagrad.h"

namespace espalier {

#if ESPALIER_WITH_CUDA
template <class T>
void launch_adagrad(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* sum,
                    const AdagradFormula<T>& formula, int device);
#else
template <class T>
void launch_adagrad(int64_t, const double*, const double*, T*, const T*, T*, const AdagradFormula<T>&, int) {}
#endif

}  // namespace espalier
