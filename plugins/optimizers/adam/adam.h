#pragma once

#include <cmath>

#include "espalier/host_device.h"

namespace espalier {

// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019), one element. step_size = lr / (1 - beta1^t),
// root = sqrt(1 - beta2^t): the bias corrections, computed once a step.
template <class T>
struct AdamFormula {
  T beta1, beta2, eps;
  bool decoupled;

  ESPALIER_HD void operator()(T& w, T g, T& m, T& v, T lr, T step_size, T root, T decay) const {
    if (decoupled) {
      w *= 1 - lr * decay;
    } else {
      g += decay * w;
    }
    m += (1 - beta1) * (g - m);
    v = beta2 * v + (1 - beta2) * g * g;
    w -= step_size * m / (std::sqrt(v) / root + eps);
  }
};

}  // namespace espalier
