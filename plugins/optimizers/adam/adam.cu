#include <espalier/cuda_pass.cuh>
#include <espalier/cuda_stream.h>

#include "adam_cuda.h"

namespace espalier {

template <class T>
struct AdamUpdate {
  AdamFormula<T> formula;
  const double* scalars;
  T* w;
  const T* g;
  T* m;
  T* v;
  __device__ void operator()(int64_t i, double decay) const {
    formula(w[i], g[i], m[i], v[i], static_cast<T>(scalars[0]), static_cast<T>(scalars[1]), static_cast<T>(scalars[2]),
            static_cast<T>(decay));
  }
};

template <class T>
void launch_adam(int64_t n, const double* table, const double* scalars, T* w, const T* g, T* m, T* v,
                 const AdamFormula<T>& formula, int device) {
  cuda::launch_pass(n, table, AdamUpdate<T>{formula, scalars, w, g, m, v}, cuda::current_stream(device));
}

template void launch_adam(int64_t, const double*, const double*, float*, const float*, float*, float*,
                          const AdamFormula<float>&, int);
template void launch_adam(int64_t, const double*, const double*, double*, const double*, double*, double*,
                          const AdamFormula<double>&, int);

}  // namespace espalier
