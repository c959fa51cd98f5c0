#include "fast_layer_norm.h"

#include <array>
#include <optional>
#include <tuple>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fast_cpu.h"
#include "kernels/layer_norm_kernels.h"
#include "number_types.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const float* values_of(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

class LayerNorm : public torch::autograd::Function<LayerNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias, double eps) {
    const int64_t channels = x.size(-1), rows = x.numel() / channels;
    const at::Tensor w = weight.value_or(at::Tensor()), b = bias.value_or(at::Tensor());
    at::Tensor y = at::empty_like(x), mean = at::empty({rows}, at::kFloat), deviation = at::empty({rows}, at::kFloat);
    with_number_type(x, [&]<class T>(T) {
      layer_norm_forward<T>(rows, channels, numbers<T>(x), values_of(w), values_of(b), eps, numbers_of<T>(y),
                            mean.mutable_data_ptr<float>(), deviation.mutable_data_ptr<float>());
    });
    context->save_for_backward({x, w, b, mean, deviation});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &mean = saved[3], &deviation = saved[4];
    const int64_t channels = x.size(-1), rows = x.numel() / channels;
    const bool affine = weight.defined();
    if (c10::GradMode::is_enabled()) {  // LibTorch differentiates its own form once more
      std::vector<int64_t> each(x.sizes().vec());
      each.back() = 1;
      const std::array<bool, 3> wanted{context->needs_input_grad(0), affine, affine};
      auto [gx, gw, gb] = at::native_layer_norm_backward(gradients[0], x, {channels}, mean.view(each),
                                                         deviation.view(each), given(weight), given(saved[2]), wanted);
      return {gx, gw, gb, {}};
    }
    const at::Tensor gy = gradients[0].to(x.scalar_type()).contiguous();
    at::Tensor gx, gw, gb;
    if (context->needs_input_grad(0)) gx = at::empty_like(x);
    if (affine) {
      gw = at::empty({channels}, at::kFloat);
      gb = at::empty({channels}, at::kFloat);
    }
    with_number_type(x, [&]<class T>(T) {
      layer_norm_backward<T>(rows, channels, numbers<T>(x), numbers<T>(gy), values_of(weight), values_of(mean),
                             values_of(deviation), gx.defined() ? numbers_of<T>(gx) : nullptr,
                             affine ? gw.mutable_data_ptr<float>() : nullptr,
                             affine ? gb.mutable_data_ptr<float>() : nullptr);
    });
    return {gx, gw, gb, {}};
  }
};

}  // namespace

bool is_fast_layer_norm(const at::Tensor& x, const at::Tensor& weight) {
  return is_of_numbers(x) && x.is_contiguous() && (!weight.defined() || weight.scalar_type() == at::kFloat);
}

at::Tensor fast_layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  return LayerNorm::apply(x, given(weight), given(bias), eps);
}

}  // namespace espalier
