#pragma once

#include <cmath>

#include "espalier/host_device.h"

namespace espalier {

// Adagrad (Duchi et al. 2011), one element: the step is divided by the root of the sum of all squared gradients so far.
template <class T>
struct AdagradFormula {
  T eps;

  ESPALIER_HD void operator()(T& w, T g, T& sum, T lr, T decay) const {
    g += decay * w;
    sum += g * g;
    w -= lr * g / (std::sqrt(sum) + eps);
  }
};

}  // namespace espalier
