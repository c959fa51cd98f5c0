#pragma once

#include <cstdint>

#include "lbi.h"

namespace espalier {

#if ESPALIER_WITH_CUDA
// One step on all rows; `rows` and `lr` lie on the device.
template <class T>
void launch_lbi(int64_t count, const LbiRow* rows, const double* lr, const LbiArenas<T>& arenas,
                const LbiFormula<T>& formula, int device);
#else
template <class T>
void launch_lbi(int64_t, const LbiRow*, const double*, const LbiArenas<T>&, const LbiFormula<T>&, int) {}
#endif

}  // namespace espalier
