#pragma once

#include <cstdint>

#include <espalier/isa.h>
#include <espalier/parallel.h>

#include "adam.h"

namespace espalier {

// One step on the CPU of the elements [begin, end) of the arenas, all with one weight decay. scalars: the learning
// rate, and step_size and root of AdamFormula.
template <class T>
void adam_pass(int64_t begin, int64_t end, double weight_decay, const double* scalars, T* w, const T* g, T* m, T* v,
               const AdamFormula<T>& formula) {
  const T lr = static_cast<T>(scalars[0]), step_size = static_cast<T>(scalars[1]), root = static_cast<T>(scalars[2]);
  const T decay = static_cast<T>(weight_decay);
  parallel_for(end - begin, 1 << 14, [&](int64_t first, int64_t last) {
    vector_loop(begin + first, begin + last,
                [=](int64_t i) { formula(w[i], g[i], m[i], v[i], lr, step_size, root, decay); });
  });
}

}  // namespace espalier
