#pragma once

#include <cstdint>

#include <espalier/isa.h>
#include <espalier/parallel.h>

#include "sgd.h"

namespace espalier {

// One step on the CPU of the elements [begin, end) of the arenas, all with one weight decay.
template <class T>
void sgd_pass(int64_t begin, int64_t end, double weight_decay, double learning_rate, T* w, const T* g, T* m,
              const SgdFormula<T>& formula) {
  const T lr = static_cast<T>(learning_rate), decay = static_cast<T>(weight_decay);
  parallel_for(end - begin, 1 << 15, [&](int64_t first, int64_t last) {
    vector_loop(begin + first, begin + last, [=](int64_t i) { formula(w[i], g[i], m[i], lr, decay); });
  });
}

}  // namespace espalier
