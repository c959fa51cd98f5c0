#include "fast_bfloat16.h"

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/isa.h"
#include "fast_cpu.h"

namespace espalier {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The bfloat16 number that is next to each element, in float32.
at::Tensor rounded(const at::Tensor& t) {
  return t.to(at::kBFloat16).to(at::kFloat);
}

class ConvThroughFloat : public Function<ConvThroughFloat> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, int64_t stride, int64_t padding, int64_t dilation,
                            int64_t groups) {
    const WithoutAutocast off;
    // Kept in bfloat16, which is half of the memory.
    const at::Tensor x = given.to(at::kBFloat16);
    context->save_for_backward({x, weight});
    context->saved_data["of_float"] = given.scalar_type() == at::kFloat;
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["numbers"] = std::vector<int64_t>{stride, padding, dilation, groups};
    return at::conv2d(x.to(at::kFloat), rounded(weight), bias ? std::optional(rounded(*bias)) : std::nullopt,
                      {stride, stride}, {padding, padding}, {dilation, dilation}, groups)
        .to(at::kBFloat16);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const WithoutAutocast off;
    const variable_list saved = context->get_saved_variables();
    const std::vector<int64_t> n = context->saved_data["numbers"].toIntVector();
    const bool bias = context->saved_data["bias"].toBool();
    const std::vector<int64_t> filters{saved[1].size(0)};
    const std::array<bool, 3> wanted{context->needs_input_grad(0), context->needs_input_grad(1), bias};
    auto [gx, gw, gb] = at::convolution_backward(
        gradients[0].to(at::kFloat), saved[0].to(at::kFloat), rounded(saved[1]),
        bias ? at::OptionalIntArrayRef(filters) : std::nullopt, {n[0], n[0]}, {n[1], n[1]}, {n[2], n[2]},
        /*transposed=*/false, {0, 0}, n[3], wanted);
    if (gx.defined() && !context->saved_data["of_float"].toBool()) gx = gx.to(at::kBFloat16);
    return {gx, gw, gb, {}, {}, {}, {}};
  }
};

}  // namespace

bool is_bfloat16_slow() {
  return isa() != Isa::v4;
}

bool is_bfloat16_on_cpu(const at::Tensor& x) {
  return x.is_cpu() && at::autocast::is_autocast_enabled(at::kCPU) &&
         at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
}

at::Tensor conv_through_float(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride,
                              int64_t padding, int64_t dilation, int64_t groups) {
  return ConvThroughFloat::apply(x, weight, given(bias), stride, padding, dilation, groups);
}

}  // namespace espalier
