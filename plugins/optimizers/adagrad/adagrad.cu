#include <espalier/cuda_pass.cuh>
#include <espalier/cuda_stream.h>

#include "adagrad_cuda.h"

namespace espalier {

template <class T>
struct AdagradUpdate {
  AdagradFormula<T> formula;
  const double* scalars;
  T* w;
  const T* g;
  T* sum;
  __device__ void operator()(int64_t i, double decay) const {
    formula(w[i], g[i], sum[i], static_cast<T>(scalars[0]), static_cast<T>(decay));
  }
};

template <class T>
void launch_adagrad(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* sum,
                    const AdagradFormula<T>& formula, int device) {
  cuda::launch_pass(n, table, AdagradUpdate<T>{formula, scalars, w, g, sum}, cuda::current_stream(device));
}

template void launch_adagrad(int64_t, const double*, const double*, float*, const float*, float*,
                             const AdagradFormula<float>&, int);
template void launch_adagrad(int64_t, const double*, const double*, double*, const double*, double*,
                             const AdagradFormula<double>&, int);

}  // namespace espalier
