#include "fast_bfloat16.h"

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/isa.h"
#include "fast_cpu.h"
#include "kernels/bfloat16_conv_kernels.h"
#include "kernels/bfloat16_kernels.h"
#include "number_types.h"

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

constexpr auto in_order = at::MemoryFormat::ChannelsLast;

Bfloat16ConvGeometry geometry(const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t padding) {
  return {x.size(0), x.size(2), x.size(3), x.size(1), weight.size(0), stride, padding};
}

class ConvBfloat16 : public Function<ConvBfloat16> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::Tensor& parameter,
                            const std::optional<at::Tensor>& bias, int64_t stride, int64_t padding) {
    const WithoutAutocast off;
    const at::Tensor x = given.to(at::kBFloat16).contiguous(in_order);
    const at::Tensor weight = parameter.to(at::kBFloat16).contiguous(in_order);
    context->save_for_backward({x, weight, parameter});
    context->saved_data["of_float"] = given.scalar_type() == at::kFloat;
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["numbers"] = std::vector<int64_t>{stride, padding};
    const Bfloat16ConvGeometry g = geometry(x, weight, stride, padding);
    at::Tensor y = at::empty({g.batch, g.filters, g.out_height(), g.out_width()}, x.options().memory_format(in_order));
    bfloat16_convolution(g, numbers<uint16_t>(x), numbers<uint16_t>(weight),
                         bias ? bias->const_data_ptr<float>() : nullptr, numbers_of<uint16_t>(y));
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const WithoutAutocast off;
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &parameter = saved[2];
    const std::vector<int64_t> n = context->saved_data["numbers"].toIntVector();
    const at::Tensor gy = gradients[0].contiguous(in_order);
    const Bfloat16ConvGeometry g = geometry(x, weight, n[0], n[1]);
    at::Tensor gx, gw, gb;
    if (context->saved_data["bias"].toBool()) gb = gy.sum({0, 2, 3}, /*keepdim=*/false, at::kFloat);
    if (context->needs_input_grad(0)) {
      if (g.stride == 1) {
        gx = at::empty_like(x);
        bfloat16_input_gradient(g, numbers<uint16_t>(gy), numbers<uint16_t>(weight), numbers_of<uint16_t>(gx));
      } else {
        gx = std::get<0>(at::convolution_backward(gy, x, weight, std::nullopt, {n[0], n[0]}, {n[1], n[1]}, {1, 1},
                                                  /*transposed=*/false, {0, 0}, 1, {true, false, false}));
      }
      if (context->saved_data["of_float"].toBool()) gx = gx.to(at::kFloat);
    }
    // A controller may ask for the gradients of some parameters alone; then this weight needs none.
    if (!context->needs_input_grad(1)) return {gx, gw, gb, {}, {}};
    const bool adds = adds_into(parameter) && parameter.grad().is_contiguous(in_order);
    const at::Tensor to =
        adds ? at::Tensor(parameter.grad()) : at::empty_like(parameter, at::TensorOptions(), in_order);
    bfloat16_weight_gradient(g, numbers<uint16_t>(x), numbers<uint16_t>(gy), adds, to.mutable_data_ptr<float>());
    if (!adds) gw = to;
    return {gx, gw, gb, {}, {}};
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

at::Tensor fast_conv_bfloat16(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t stride,
                              int64_t padding) {
  // Where there are few filters, most lanes would be empty; the sums of large weights do not stay in the caches.
  constexpr int64_t least = 8, most = 1 << 14;
  const int64_t filters = weight.size(0), channels = weight.size(1);
  if (!has_bfloat16_products() || !is_fast_activation(x) || weight.size(2) != 3 || stride > 2 || padding > 2 ||
      filters < least || channels < least || filters * channels > most)
    return {};
  return ConvBfloat16::apply(x, weight, given(bias), stride, padding);
}

}  // namespace espalier
