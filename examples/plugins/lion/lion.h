#pragma once

#include <cstdint>

#include <espalier/host_device.h>

namespace espalier {

// One element of a step of Lion (Chen et al., NeurIPS 2023, algorithm 2), for the CPU and for the kernel.
template <class T>
struct LionFormula {
  T beta1, beta2;

  ESPALIER_HD void operator()(T& w, T g, T& m, T lr, T decay) const {
    const T c = beta1 * m + (1 - beta1) * g;
    const T sign = c > 0 ? T(1) : c < 0 ? T(-1) : T(0);
    w -= lr * (sign + decay * w);
    m = beta2 * m + (1 - beta2) * g;
  }
};

#if ESPALIER_WITH_CUDA
// Updates n elements of an arena on a GPU. `table`: span_table() of the selected elements; `lr`: in the memory of the
// device.
template <class T>
void launch_lion(int64_t n, const double* table, const double* lr, T* w, const T* g, T* m,
                 const LionFormula<T>& formula, int device);
#else
template <class T>
void launch_lion(int64_t, const double*, const double*, T*, const T*, T*, const LionFormula<T>&, int) {}
#endif

}  // namespace espalier
