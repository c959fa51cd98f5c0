#include "fast_window_attention.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/isa.h"
#include "fast_cpu.h"
#include "kernels/window_attention_kernels.h"
#include "number_types.h"

namespace espalier {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

WindowAttentionGeometry geometry(const at::Tensor& q, const at::Tensor& v, const WindowLayout& layout, int64_t heads,
                                 double scale, int64_t out_pixels, const at::Tensor& bias) {
  return {.batch = q.size(0),
          .windows = layout.from.size(0),
          .tokens = layout.from.size(1),
          .heads = heads,
          .query = q.size(3) / heads,
          .value = v.size(3) / heads,
          .pixels = q.size(1) * q.size(2),
          .out_pixels = out_pixels,
          .scale = scale,
          .from = layout.from.const_data_ptr<int64_t>(),
          .to = layout.to.const_data_ptr<int64_t>(),
          .bias = bias.const_data_ptr<float>(),
          .masks = layout.masks.const_data_ptr<float>(),
          .mask_of = layout.mask_of.const_data_ptr<int64_t>()};
}

// The bias of each pair of tokens: [heads, tokens, row_of(tokens)].
at::Tensor bias_of_pairs(const at::Tensor& table, const at::Tensor& rows) {
  const int64_t heads = table.size(1), tokens = rows.size(0), row = row_of(tokens);
  const at::Tensor values = table.to(at::kFloat).contiguous();
  at::Tensor bias = at::empty({heads, tokens, row}, at::kFloat).fill_(absent);
  const auto* from = values.const_data_ptr<float>();
  const auto* which = rows.const_data_ptr<int64_t>();
  auto* to = bias.mutable_data_ptr<float>();
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t j = 0; j < tokens; ++j) to[(h * tokens + i) * row + j] = from[which[i * tokens + j] * heads + h];
    }
  }
  return bias;
}

// The gradient of the table from that of the bias of each pair of tokens.
at::Tensor table_gradient(const at::Tensor& gbias, const at::Tensor& rows, const at::Tensor& table) {
  const int64_t heads = gbias.size(0), tokens = rows.size(0), row = row_of(tokens);
  std::vector<double> sums(static_cast<size_t>(table.numel()), 0.0);
  const auto* from = gbias.const_data_ptr<float>();
  const auto* which = rows.const_data_ptr<int64_t>();
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t j = 0; j < tokens; ++j) {
        sums[static_cast<size_t>(which[i * tokens + j] * heads + h)] +=
            static_cast<double>(from[(h * tokens + i) * row + j]);
      }
    }
  }
  const at::Tensor gradient = at::empty(table.sizes(), at::kFloat);
  std::ranges::transform(sums, gradient.mutable_data_ptr<float>(), [](double s) { return static_cast<float>(s); });
  return gradient.to(table.scalar_type());
}

class WindowAttentionFunction : public torch::autograd::Function<WindowAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const at::Tensor& table, const WindowLayout& layout, double scale, int64_t out_height,
                            int64_t out_width) {
    const int64_t heads = table.size(1);
    const at::Tensor bias = bias_of_pairs(table, layout.rows);
    const auto g = geometry(q, v, layout, heads, scale, out_height * out_width, bias);
    at::Tensor y = at::empty({q.size(0), out_height, out_width, v.size(3)}, v.options());
    at::Tensor log_sum = at::empty({g.batch, g.windows, heads, g.tokens}, at::kFloat);
    with_number_type(q, [&]<class T>(T) {
      window_attention_forward<T>(g, numbers<T>(q), numbers<T>(k), numbers<T>(v), numbers_of<T>(y),
                                  log_sum.mutable_data_ptr<float>());
    });
    context->save_for_backward(
        {q, k, v, table, bias, log_sum, layout.from, layout.to, layout.rows, layout.masks, layout.mask_of});
    context->saved_data["scale"] = scale;
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &table = saved[3], &bias = saved[4];
    const WindowLayout layout{saved[6], saved[7], saved[8], saved[9], saved[10]};
    const at::Tensor gy = gradients[0].contiguous();
    const auto g =
        geometry(q, v, layout, table.size(1), context->saved_data["scale"].toDouble(), gy.size(1) * gy.size(2), bias);
    at::Tensor gq = at::empty_like(q), gk = at::empty_like(k), gv = at::empty_like(v);
    at::Tensor gbias = at::empty({g.heads, g.tokens, row_of(g.tokens)}, at::kFloat);
    with_number_type(q, [&]<class T>(T) {
      window_attention_backward<T>(g, numbers<T>(q), numbers<T>(k), numbers<T>(v), saved[5].const_data_ptr<float>(),
                                   numbers<T>(gy), numbers_of<T>(gq), numbers_of<T>(gk), numbers_of<T>(gv),
                                   gbias.mutable_data_ptr<float>());
    });
    at::Tensor gtable;
    if (context->needs_input_grad(3)) gtable = table_gradient(gbias, layout.rows, table);
    return {gq, gk, gv, gtable, {}, {}, {}, {}};
  }
};

}  // namespace

bool is_fast_window_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  const at::ScalarType type = queries.scalar_type();
  return queries.is_cpu() && (type == at::kFloat || type == at::kBFloat16) && keys.scalar_type() == type &&
         values.scalar_type() == type && isa() != Isa::baseline;
}

at::Tensor fast_window_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                                 const at::Tensor& table, const WindowLayout& layout, double scale, int64_t out_height,
                                 int64_t out_width) {
  return WindowAttentionFunction::apply(queries.contiguous(), keys.contiguous(), values.contiguous(), table, layout,
                                        scale, out_height, out_width);
}

}  // namespace espalier
