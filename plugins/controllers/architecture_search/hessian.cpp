#include "hessian.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <espalier/random_fill.h>

#include "gradients_of.h"

namespace espalier {

namespace {

// The architecture parameters of a run as one vector of float64 on the CPU.
class Architecture {
 public:
  Architecture(Run& run, const Batch& batch) : run_(run), batch_(batch) {
    for (const ParamId p : weights().bank(Role::architecture).parameters) {
      parameters_.push_back(p);
      values_.push_back(weights()[p].detach().clone());
      size_ += values_.back().numel();
    }
  }
  Architecture(const Architecture&) = delete;
  Architecture& operator=(const Architecture&) = delete;
  ~Architecture() {
    const c10::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters_.size(); ++i) at::Tensor(weights()[parameters_[i]].detach()).copy_(values_[i]);
  }
  int64_t size() const { return size_; }

  // The product of the Hessian with a vector of length 1. The step is the cube root of the rounding error, at which the
  // errors of a central difference by rounding and by the third derivative are alike.
  at::Tensor product(const at::Tensor& v) const {
    const double eps = weights().dtype() == at::kDouble ? 2.2e-16 : 1.2e-7;
    const double step = std::cbrt(eps);
    return (gradient(v, step) - gradient(v, -step)) / (2 * step);
  }

 private:
  Weights& weights() const { return run_.weights(); }

  // The gradient at the values moved by `step` along v.
  at::Tensor gradient(const at::Tensor& v, double step) const {
    {
      const c10::NoGradGuard no_grad;
      int64_t at = 0;
      for (size_t i = 0; i < parameters_.size(); ++i) {
        at::Tensor value = weights()[parameters_[i]].detach();
        const at::Tensor along = v.narrow(0, at, value.numel()).view(value.sizes()).to(value.options());
        value.copy_(values_[i]).add_(along, step);
        at += value.numel();
      }
    }
    clear_gradients(weights(), Role::architecture);
    const GradientsOf only(weights(), Role::architecture);
    run_.loss(batch_, nullptr).backward();
    const c10::NoGradGuard no_grad;
    std::vector<at::Tensor> parts;
    for (const ParamId p : parameters_)
      parts.push_back(at::Tensor(weights().gradient(p)).detach().flatten().to(at::kCPU, at::kDouble));
    at::Tensor all = at::cat(parts);
    clear_gradients(weights(), Role::architecture);
    return all;
  }

  Run& run_;
  const Batch& batch_;
  std::vector<ParamId> parameters_;
  std::vector<at::Tensor> values_;
  int64_t size_ = 0;
};

}  // namespace

double architecture_eigenvalue(Run& run, const Batch& batch, int64_t most_products) {
  constexpr double tolerance = 1e-3;
  const Architecture alpha(run, batch);
  if (alpha.size() == 0) return 0;
  std::vector<at::Tensor> basis;  // orthonormal
  std::vector<double> diagonal, beside;
  at::Tensor next = normal({alpha.size()}, 1, RandomKey(0).with("architecture_eigenvalue")).to(at::kCPU, at::kDouble);
  double eigenvalue = 0;
  const int64_t most = std::min(alpha.size(), most_products);
  for (int64_t k = 0; k < most; ++k) {
    basis.push_back(next / next.norm());
    next = alpha.product(basis.back());
    const c10::NoGradGuard no_grad;
    diagonal.push_back(at::dot(basis.back(), next).item<double>());
    // Twice, because once leaves what rounding makes of large parts.
    for (int i = 0; i < 2; ++i) {
      for (const at::Tensor& b : basis) next = next - at::dot(b, next) * b;
    }
    const double norm = next.norm().item<double>();

    // The tridiagonal matrix of the products in the basis: its eigenvalues approach those of the Hessian, each with an
    // error of at most `norm` times the last entry of its vector.
    const auto n = static_cast<int64_t>(diagonal.size());
    at::Tensor t = at::zeros({n, n}, at::kDouble);
    for (int64_t i = 0; i < n; ++i) {
      t[i][i] = diagonal[static_cast<size_t>(i)];
      if (i > 0) t[i][i - 1] = t[i - 1][i] = beside[static_cast<size_t>(i - 1)];
    }
    const auto [values, vectors] = at::linalg_eigh(t);
    const int64_t at = values.abs().argmax().item<int64_t>();
    eigenvalue = values[at].item<double>();
    const double error = norm * std::abs(vectors[n - 1][at].item<double>());
    if (error <= tolerance * std::abs(eigenvalue)) break;
    beside.push_back(norm);
  }
  return eigenvalue;
}

}  // namespace espalier
