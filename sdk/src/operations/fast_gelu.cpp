#include "fast_gelu.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu_backward.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/isa.h"
#include "kernels/gelu_kernels.h"
#include "number_types.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor value(const at::Tensor& x) {
  at::Tensor y = at::empty_like(x);
  with_number_type(x, [&]<class T>(T) { gelu_forward<T>(x.numel(), numbers<T>(x), numbers_of<T>(y)); });
  return y;
}

class Gelu : public torch::autograd::Function<Gelu> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    return value(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    at::Tensor gy = gradients[0];
    if (c10::GradMode::is_enabled()) return {at::gelu_backward(gy, x)};  // which LibTorch differentiates once more
    if (gy.strides() != x.strides() || gy.scalar_type() != x.scalar_type()) gy = at::empty_like(x).copy_(gy);
    at::Tensor gx = at::empty_like(x);
    with_number_type(
        x, [&]<class T>(T) { gelu_backward<T>(x.numel(), numbers<T>(x), numbers<T>(gy), numbers_of<T>(gx)); });
    return {gx};
  }
};

}  // namespace

bool is_fast_gelu(const at::Tensor& x) {
  return is_of_numbers(x) && x.is_non_overlapping_and_dense() && isa() != Isa::baseline;
}

at::Tensor fast_gelu(const at::Tensor& x) {
  return c10::GradMode::is_enabled() ? Gelu::apply(x) : value(x);
}

}  // namespace espalier
