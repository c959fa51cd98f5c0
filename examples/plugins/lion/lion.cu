#include <espalier/cuda_pass.cuh>
#include <espalier/cuda_stream.h>

#include "lion.h"

namespace espalier {

template <class T>
struct LionUpdate {
  LionFormula<T> formula;
  const double* lr;
  T* w;
  const T* g;
  T* m;
  __device__ void operator()(int64_t i, double decay) const {
    formula(w[i], g[i], m[i], static_cast<T>(*lr), static_cast<T>(decay));
  }
};

template <class T>
void launch_lion(int64_t n, const double* table, const double* lr, T* w, const T* g, T* m,
                 const LionFormula<T>& formula, int device) {
  cuda::launch_pass(n, table, LionUpdate<T>{formula, lr, w, g, m}, cuda::current_stream(device));
}

template void launch_lion(int64_t, const double*, const double*, float*, const float*, float*,
                          const LionFormula<float>&, int);
template void launch_lion(int64_t, const double*, const double*, double*, const double*, double*,
                          const LionFormula<double>&, int);

}  // namespace espalier
