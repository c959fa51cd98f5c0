#pragma once

#include <espalier/weights.h>

namespace espalier {

// For as long as it lives, passes through these Weights give the gradients of one role alone. Those of the weights are
// a third of a pass; those of coefficients are sums over the images of every operation.
class GradientsOf {
 public:
  GradientsOf(const Weights& weights, Role role)
      : weights_(weights), other_(role == Role::weight ? Role::architecture : Role::weight) {
    require(false);
  }
  GradientsOf(const GradientsOf&) = delete;
  GradientsOf& operator=(const GradientsOf&) = delete;
  ~GradientsOf() { require(true); }

 private:
  void require(bool gradients) const {
    for (const ParamId p : weights_.bank(other_).parameters) weights_[p].set_requires_grad(gradients);
  }
  const Weights& weights_;
  Role other_;
};

// Returns the values of all parameters of a role, and their gradients, as one tensor each.
inline at::Tensor values_of(const Weights& weights, Role role) {
  return weights.bank(role).values.flat();
}
inline at::Tensor gradients_of(const Weights& weights, Role role) {
  return weights.bank(role).gradients.flat();
}

// Sets the gradients of a role to zero.
inline void clear_gradients(const Weights& weights, Role role) {
  if (weights.bank(role).gradients.numel() > 0) gradients_of(weights, role).zero_();
}

}  // namespace espalier
