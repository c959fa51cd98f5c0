#pragma once

#include <cstdint>

#include "sgd.h"

namespace espalier {

#if ESPALIER_WITH_CUDA
template <class T>
void launch_sgd(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* m,
                const SgdFormula<T>& formula, int device);
#else
template <class T>
void launch_sgd(int64_t, const double*, const double*, T*, const T*, T*, const SgdFormula<T>&, int) {}
#endif

}  // namespace espalier
