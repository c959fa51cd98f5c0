#include <espalier/cuda_pass.cuh>
#include <espalier/cuda_stream.h>

#include "sgd_cuda.h"

namespace espalier {

template <class T>
struct SgdUpdate {
  SgdFormula<T> formula;
  const double* scalars;
  T* w;
  const T* g;
  T* m;
  __device__ void operator()(int64_t i, double decay) const {
    formula(w[i], g[i], m[i], static_cast<T>(scalars[0]), static_cast<T>(decay));
  }
};

template <class T>
void launch_sgd(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* m,
                const SgdFormula<T>& formula, int device) {
  cuda::launch_pass(n, table, SgdUpdate<T>{formula, scalars, w, g, m}, cuda::current_stream(device));
}

template void launch_sgd(int64_t, const double*, const double*, float*, const float*, float*, const SgdFormula<float>&,
                         int);
template void launch_sgd(int64_t, const double*, const double*, double*, const double*, double*,
                         const SgdFormula<double>&, int);

}  // namespace espalier
