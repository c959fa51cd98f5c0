#pragma once

#include "espalier/host_device.h"

namespace espalier {

// Stochastic gradient descent with momentum (Polyak 1964; Nesterov's form as in Sutskever et al. 2013), one element:
// coupled weight decay enters the gradient, decoupled decay (Loshchilov & Hutter 2019) shrinks the weight by lr *
// decay.
template <class T>
struct SgdFormula {
  T momentum;
  bool nesterov;
  bool decoupled;

  ESPALIER_HD void operator()(T& w, T g, T& m, T lr, T decay) const {
    if (decoupled) {
      w *= 1 - lr * decay;
    } else {
      g += decay * w;
    }
    m = momentum * m + g;
    w -= lr * (nesterov ? g + momentum * m : m);
  }
};

}  // namespace espalier
