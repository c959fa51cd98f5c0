#include "fast_linear.h"

#include <optional>
#include <string_view>

#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fast_bfloat16.h"
#include "fast_cpu.h"
#include "kernels/bfloat16_kernels.h"
#include "kernels/bfloat16_product_kernels.h"
#include "number_types.h"

namespace espalier {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// MKL does not use AVX-512 on processors of other makers; oneDNN, which LibTorch holds too, does. Its product of a
// linear layer is reached through the operator that LibTorch's compiler calls.
using OneDnnLinear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                std::string_view, c10::List<std::optional<at::Scalar>>,
                                std::optional<std::string_view>);

const c10::TypedOperatorHandle<OneDnnLinear>* onednn_linear() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<OneDnnLinear>> {
#if defined(__x86_64__)
    if (__builtin_cpu_is("intel") || !__builtin_cpu_supports("avx512f")) return std::nullopt;
    const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (schema && schema->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return schema->typed<OneDnnLinear>();
#endif
    return std::nullopt;
  }();
  return found ? &*found : nullptr;
}

bool is_large_for_onednn(const at::Tensor& a, const at::Tensor& b) {
  // Below this many multiply-accumulates MKL is as fast (measured: 128 x 300 x 100 the same, 128 x 784 x 300 half).
  constexpr int64_t least = 8'000'000;
  return a.size(0) * a.size(1) * b.size(0) >= least && onednn_linear();
}

// a [m, k] times the transpose of b [n, k], plus the bias [n] where there is one.
at::Tensor product(const at::Tensor& a, const at::Tensor& b, const std::optional<at::Tensor>& bias) {
  if (is_large_for_onednn(a, b))
    return onednn_linear()->call(a, b, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
  return bias ? at::addmm(*bias, a, b.t()) : at::mm(a, b.t());
}

// sum += a [m, k] times the transpose of b [n, k]
void add_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (is_large_for_onednn(a, b)) {
    sum.add_(product(a, b, {}));
  } else {
    sum.addmm_(a, b.t());
  }
}

class Linear : public Function<Linear> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return product(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &gy = gradients[0];
    at::Tensor gx, gw, gb;
    const bool differentiable = c10::GradMode::is_enabled();
    if (context->needs_input_grad(0)) gx = differentiable ? gy.mm(weight) : product(gy, weight.t(), {});
    if (context->saved_data["bias"].toBool()) gb = gy.sum(0);
    // A controller may ask for the gradients of some parameters alone; then this weight needs none.
    if (!context->needs_input_grad(1)) return {gx, gw, gb};
    if (!differentiable && adds_into(weight)) {
      add_product(at::Tensor(weight.grad()), gy.t(), x.t());
    } else {
      gw = gy.t().mm(x);
    }
    return {gx, gw, gb};
  }
};

class LinearBfloat16 : public Function<LinearBfloat16> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given_x, const at::Tensor& given_weight,
                            const std::optional<at::Tensor>& bias) {
    const at::Tensor x = given_x.to(at::kBFloat16), weight = given_weight.to(at::kBFloat16);
    context->save_for_backward({x, weight, given_weight});
    context->saved_data["bias"] = bias.has_value();
    const auto b = bias ? std::optional(bias->to(at::kBFloat16)) : std::nullopt;
    if (!is_bfloat16_slow()) return at::linear(x, weight, b);
    const WithoutAutocast off;
    return product(x.to(at::kFloat), weight.to(at::kFloat), b ? std::optional(b->to(at::kFloat)) : std::nullopt)
        .to(at::kBFloat16);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &parameter = saved[2];
    const at::Tensor gy = gradients[0].contiguous();
    at::Tensor gx, gw, gb;
    if (context->saved_data["bias"].toBool()) {
      gb = at::empty({gy.size(1)}, at::kFloat);
      column_sums_bfloat16(gy.size(0), gy.size(1), numbers<uint16_t>(gy), gb.mutable_data_ptr<float>());
    }
    if (is_bfloat16_slow()) {
      const WithoutAutocast off;
      const at::Tensor g = gy.to(at::kFloat);
      if (context->needs_input_grad(0)) gx = product(g, weight.to(at::kFloat).t(), {}).to(at::kBFloat16);
      if (!context->needs_input_grad(1)) return {gx, gw, gb};
      if (adds_into(parameter)) {
        add_product(at::Tensor(parameter.grad()), g.t(), x.to(at::kFloat).t());
      } else {
        gw = g.t().mm(x.to(at::kFloat));
      }
      return {gx, gw, gb};
    }
    if (context->needs_input_grad(0)) gx = gy.mm(weight);
    if (!context->needs_input_grad(1)) return {gx, gw, gb};
    gw = gy.t().mm(x);
    if (adds_into(parameter) && parameter.grad().is_contiguous() && gw.is_contiguous()) {
      add_bfloat16(gw.numel(), numbers<uint16_t>(gw), at::Tensor(parameter.grad()).mutable_data_ptr<float>());
      return {gx, at::Tensor(), gb};
    }
    return {gx, gw.to(at::kFloat), gb};
  }
};

// y [rows, width] = x times a factor that `pack` packs, plus bias
template <class Pack>
at::Tensor product_bfloat16(const at::Tensor& x, int64_t width, const at::Tensor& bias, const Pack& pack) {
  const int64_t rows = x.size(0), depth = x.size(1);
  const at::Tensor packed = at::empty({packed_size(depth, width)}, at::kInt);
  auto* factor = static_cast<uint32_t*>(packed.mutable_data_ptr());
  pack(factor);
  at::Tensor y = at::empty({rows, width}, at::kBFloat16);
  multiply_bfloat16(rows, depth, width, numbers<uint16_t>(x), factor,
                    bias.defined() ? bias.const_data_ptr<float>() : nullptr, numbers_of<uint16_t>(y));
  return y;
}

// The same where the processor multiplies bfloat16 numbers: the weight is rounded while it is packed, the bias is
// added in float32, and so is the weight's gradient to the one there is.
class LinearByBfloat16Products : public Function<LinearByBfloat16Products> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    const at::Tensor x = given.to(at::kBFloat16).contiguous();
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    const int64_t depth = x.size(1), width = weight.size(0);
    return product_bfloat16(x, width, bias.value_or(at::Tensor()), [&](uint32_t* to) {
      pack_transposed_factor(depth, width, weight.const_data_ptr<float>(), to);
    });
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor gy = gradients[0].contiguous();
    const int64_t rows = x.size(0), width = x.size(1), height = weight.size(0);
    at::Tensor gx, gw, gb;
    if (context->needs_input_grad(0)) {
      gx = product_bfloat16(gy, width, {},
                            [&](uint32_t* to) { pack_factor(height, width, weight.const_data_ptr<float>(), to); });
    }
    if (context->saved_data["bias"].toBool()) gb = at::empty({height}, at::kFloat);
    float* columns = gb.defined() ? gb.mutable_data_ptr<float>() : nullptr;
    // A controller may ask for the gradients of some parameters alone; then this weight needs none.
    if (!context->needs_input_grad(1)) {
      if (columns) column_sums_bfloat16(rows, height, numbers<uint16_t>(gy), columns);
      return {gx, gw, gb};
    }
    const bool adds = adds_into(weight) && weight.grad().is_contiguous();
    if (!adds) gw = at::zeros_like(weight);
    add_transposed_product_bfloat16(rows, height, width, numbers<uint16_t>(gy), numbers<uint16_t>(x),
                                    (adds ? at::Tensor(weight.grad()) : gw).mutable_data_ptr<float>(), columns);
    return {gx, gw, gb};
  }
};

}  // namespace

at::Tensor fast_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!c10::GradMode::is_enabled()) return product(x, weight, given(bias));
  return Linear::apply(x, weight, given(bias));
}

at::Tensor fast_linear_bfloat16(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (has_bfloat16_products() && weight.is_contiguous()) return LinearByBfloat16Products::apply(x, weight, given(bias));
  return LinearBfloat16::apply(x, weight, given(bias));
}

}  // namespace espalier
