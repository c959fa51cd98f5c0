#include "fast_winograd.h"

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "fast_cpu.h"
#include "kernels/winograd_kernels.h"

namespace espalier {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr auto in_order = at::MemoryFormat::ChannelsLast;

WinogradGeometry geometry(const at::Tensor& x, const at::Tensor& weight, int64_t padding) {
  return {x.size(0), x.size(2), x.size(3), x.size(1), weight.size(0), padding};
}

at::Tensor convolved(const WinogradGeometry& g, const at::Tensor& x, const at::Tensor& weight, const AfterSum& after) {
  at::Tensor y = at::empty({g.batch, g.filters, g.out_height(), g.out_width()}, x.options().memory_format(in_order));
  winograd_forward(g, x.const_data_ptr<float>(), weight.contiguous(in_order).const_data_ptr<float>(), after,
                   y.mutable_data_ptr<float>());
  return y;
}

// Measured: with fewer channels than eight, or where less than a third of the multiplications is saved, LibTorch's
// convolution is as fast; and the transform of the weights takes as long as the products of some tens of tiles.
bool is_worth_it(const at::Tensor& x, const at::Tensor& weight, int64_t padding) {
  if (!has_winograd() || weight.size(2) != 3 || padding > 2) return false;
  const WinogradGeometry g = geometry(x, weight, padding);
  constexpr int64_t least = 8, least_tiles = 64;
  const int64_t height = g.out_height(), width = g.out_width();
  const int64_t tiles = ((height + 1) / 2) * ((width + 1) / 2), direct = height * width * 9, products = tiles * 16;
  return g.channels >= least && g.filters >= least && g.batch * tiles >= least_tiles && 2 * direct >= 3 * products;
}

class WinogradConv : public Function<WinogradConv> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, int64_t padding) {
    const WinogradGeometry g = geometry(x, weight, padding);
    at::Tensor y = at::empty({g.batch, g.filters, g.out_height(), g.out_width()}, x.options().memory_format(in_order));
    winograd_forward(g, x.const_data_ptr<float>(), weight.contiguous(in_order).const_data_ptr<float>(),
                     {.shift = bias ? bias->const_data_ptr<float>() : nullptr}, y.mutable_data_ptr<float>());
    context->save_for_backward({x, weight});
    context->saved_data["padding"] = padding;
    context->saved_data["bias"] = bias.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const int64_t padding = context->saved_data["padding"].toInt();
    const bool bias = context->saved_data["bias"].toBool();
    const std::array<bool, 3> wanted{context->needs_input_grad(0), context->needs_input_grad(1), bias};
    if (c10::GradMode::is_enabled()) {
      const std::vector<int64_t> filters{weight.size(0)};
      auto [gx, gw, gb] =
          at::convolution_backward(gradients[0], x, weight, bias ? at::OptionalIntArrayRef(filters) : std::nullopt,
                                   {1, 1}, {padding, padding}, {1, 1}, /*transposed=*/false, {0, 0}, 1, wanted);
      return {gx, gw, gb, {}};
    }
    const WinogradGeometry g = geometry(x, weight, padding);
    const at::Tensor gy = gradients[0].contiguous(in_order);
    at::Tensor gx, gw, gb;
    if (bias) gb = gy.sum({0, 2, 3});
    if (wanted[0]) {
      gx = at::empty_like(x);
      winograd_input_gradient(g, gy.const_data_ptr<float>(), weight.contiguous(in_order).const_data_ptr<float>(),
                              gx.mutable_data_ptr<float>());
    }
    // A controller may ask for the gradients of some parameters alone; then this weight needs none.
    if (!wanted[1]) return {gx, gw, gb, {}};
    const bool adds = adds_into(weight) && weight.grad().is_contiguous(in_order);
    const at::Tensor to = adds ? at::Tensor(weight.grad()) : at::empty_like(weight, at::TensorOptions(), in_order);
    winograd_weight_gradient(g, x.const_data_ptr<float>(), gy.const_data_ptr<float>(), adds,
                             to.mutable_data_ptr<float>());
    if (!adds) gw = to;
    return {gx, gw, gb, {}};
  }
};

}  // namespace

at::Tensor fast_winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding) {
  if (!is_worth_it(x, weight, padding)) return {};
  return WinogradConv::apply(x, weight, given(bias), padding);
}

at::Tensor fast_winograd_folded(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding,
                                const FoldedNorm& norm) {
  if (!is_worth_it(x, weight, padding)) return {};
  const at::Tensor shift = bias.defined() ? norm.shift + norm.scale * bias : norm.shift;
  return convolved(geometry(x, weight, padding), x, weight,
                   {.scale = norm.scale.const_data_ptr<float>(),
                    .shift = shift.const_data_ptr<float>(),
                    .added = norm.added.defined() ? norm.added.const_data_ptr<float>() : nullptr,
                    .relu = norm.relu});
}

}  // namespace espalier
