#include "espalier/parallel.h"

#include <ATen/Parallel.h>

#ifndef _OPENMP
#error "without OpenMP at::parallel_for is silently serial"
#endif

namespace espalier {

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  at::parallel_for(0, n, grain, body);
}

}  // namespace espalier
