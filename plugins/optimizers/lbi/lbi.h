#pragma once

#include <cmath>
#include <cstdint>

#include "espalier/host_device.h"

namespace espalier {

// Linearized Bregman iteration as paper 000 uses it (DI-ISS, eqs. (5)-(7)), with the momentum, the order of updates and
// the signs of the authors' code: (8) is printed with the wrong sign and norm (misprints 000-X1, X3, X4). One element.
template <class T>
struct LbiFormula {
  T momentum;
  bool nesterov;
  T kappa;
  T coupling;  // 1 / nu
  T z_rate;    // of Z, times lr: 1 / nu, or 1 / (nu kappa)
  T lambda;
  bool per_weight;  // groups compare the root mean square of Z, rather than its norm, with lambda

  ESPALIER_HD T direction(T w, T g, T& m, T decay) const {
    g += decay * w;
    m = momentum * m + g;
    return nesterov ? g + momentum * m : m;
  }
  // A parameter without Gamma.
  ESPALIER_HD void plain(T& w, T g, T& m, T lr, T decay) const { w -= lr * kappa * direction(w, g, m, decay); }
  // Z moves by the weight and Gamma of before the step; the coupling is not in the momentum.
  ESPALIER_HD void coupled(T& w, T g, T& m, T& z, T gamma, T lr, T decay) const {
    const T apart = w - gamma;
    w -= lr * kappa * (direction(w, g, m, decay) + coupling * apart);
    z += lr * z_rate * apart;
  }
  // Gamma / Z of a group, from the sum of squares of its Z: kappa max(0, 1 - lambda / ||Z||).
  ESPALIER_HD T scale(T squares, int64_t size) const {
    const T norm = std::sqrt(per_weight ? squares / static_cast<T>(size) : squares);
    return norm > lambda ? kappa * (1 - lambda / norm) : 0;
  }
  // Gamma of a single element: kappa times the soft threshold.
  ESPALIER_HD T threshold(T z) const {
    return z > lambda ? kappa * (z - lambda) : z < -lambda ? kappa * (z + lambda) : 0;
  }
};

// Consecutive elements of an arena that are updated together: a filter, a unit, or a piece of a parameter that has no
// Gamma.
struct LbiRow {
  enum Kind : int32_t { plain, group, elements };
  int64_t offset;
  int64_t state;  // place in the arenas of `scale` and `support`
  double decay;
  int32_t size;
  Kind kind;
};

// Pointers into the arenas of one role.
template <class T>
struct LbiArenas {
  T* w;
  const T* g;
  T* m;
  T* z;
  T* scale;
  T* support;
};

}  // namespace espalier
