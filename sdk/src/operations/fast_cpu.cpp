#include "fast_cpu.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include "espalier/error.h"
#include "kernels/batch_norm_kernels.h"
#include "kernels/max_pool_kernels.h"
#include "number_types.h"

namespace espalier {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// A gradient as these loops read it.
at::Tensor in_order(const at::Tensor& gradient) {
  return gradient.dim() == 4 ? gradient.contiguous(at::MemoryFormat::ChannelsLast) : gradient.contiguous();
}

class MaxPool : public Function<MaxPool> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t kernel, int64_t stride,
                            int64_t padding, bool relu) {
    const PoolGeometry g = geometry(x, kernel, stride, padding);
    const std::vector<int64_t> shape{g.batch, g.channels, g.out_height, g.out_width};
    at::Tensor y = at::empty(shape, x.options().memory_format(at::MemoryFormat::ChannelsLast));
    at::Tensor which = at::empty(shape, x.options().dtype(at::kInt).memory_format(at::MemoryFormat::ChannelsLast));
    max_pool_forward(g, relu, x.const_data_ptr<float>(), y.mutable_data_ptr<float>(),
                     which.mutable_data_ptr<int32_t>());
    context->save_for_backward({which});
    context->saved_data["x"] = x.sizes().vec();
    context->saved_data["window"] = std::vector<int64_t>{kernel, stride, padding};
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const at::Tensor which = context->get_saved_variables()[0];
    const at::Tensor gy = in_order(gradients[0]);
    at::Tensor gx =
        at::empty(context->saved_data["x"].toIntVector(), gy.options().memory_format(at::MemoryFormat::ChannelsLast));
    const std::vector<int64_t> window = context->saved_data["window"].toIntVector();
    max_pool_backward(geometry(gx, window[0], window[1], window[2]), gy.const_data_ptr<float>(),
                      which.const_data_ptr<int32_t>(), gx.mutable_data_ptr<float>());
    return {gx, {}, {}, {}, {}};
  }

 private:
  static PoolGeometry geometry(const at::Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
    const auto out = [&](int64_t n) { return (n + 2 * padding - kernel) / stride + 1; };
    return {x.size(0), x.size(2), x.size(3), x.size(1), out(x.size(2)), out(x.size(3)), kernel, stride, padding};
  }
};

// Per channel: y = x * scale + shift.
struct Affine {
  at::Tensor scale, shift, mean;  // float32 [channels]
};

const float* values_of(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

Affine affine(int64_t channels, const double* mean, const double* deviation, const at::Tensor& weight,
              const at::Tensor& bias, const at::Tensor& gate) {
  const at::Tensor all = at::empty({3, channels}, at::kFloat);
  auto* scale = all.mutable_data_ptr<float>();
  float *shift = scale + channels, *center = shift + channels;
  const float *w = values_of(weight), *b = values_of(bias), *gates = values_of(gate);
  for (int64_t c = 0; c < channels; ++c) {
    const double s = (w ? static_cast<double>(w[c]) : 1.0) * deviation[c];
    const double g = gates ? static_cast<double>(gates[c]) : 1.0;
    scale[c] = static_cast<float>(g * s);
    shift[c] = static_cast<float>(g * ((b ? static_cast<double>(b[c]) : 0.0) - mean[c] * s));
    center[c] = static_cast<float>(mean[c]);
  }
  return {all[0], all[1], all[2]};
}

// x * scale + shift + added, with ReLU where asked for.
at::Tensor scaled(const at::Tensor& x, const Affine& a, const at::Tensor& added, bool relu) {
  at::Tensor y = at::empty_like(x);
  with_number_type(x, [&]<class A>(A) {
    scale_shift(x.numel() / x.size(1), x.size(1), numbers<A>(x), a.scale.const_data_ptr<float>(),
                a.shift.const_data_ptr<float>(), added.defined() ? numbers<A>(added) : nullptr, relu, numbers_of<A>(y));
  });
  return y;
}

// In training, where the statistics are those of the batch.
class BatchNorm : public Function<BatchNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& weight,
                            const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& gate,
                            const std::optional<at::Tensor>& added, bool relu, const NormTerm& norm) {
    const int64_t channels = x.size(1);
    std::vector<double> mean(static_cast<size_t>(channels)), deviation(static_cast<size_t>(channels));
    const double counted = normalising(x, norm, mean.data(), deviation.data());
    const at::Tensor w = weight.value_or(at::Tensor()), b = bias.value_or(at::Tensor());
    const at::Tensor g = gate.value_or(at::Tensor());
    const Affine a = affine(channels, mean.data(), deviation.data(), w, b, g);
    at::Tensor y = scaled(x, a, added.value_or(at::Tensor()), relu);
    // What the gate multiplies, apart from x: copies, since the values change before some backward passes are done.
    at::Tensor gated;
    if (gate) {
      gated = at::empty({3, channels}, at::kFloat);
      auto* to = gated.mutable_data_ptr<float>();
      for (int64_t c = 0; c < channels; ++c) {
        to[c] = g.const_data_ptr<float>()[c];
        to[channels + c] = w.defined() ? w.const_data_ptr<float>()[c] : 1.0F;
        to[2 * channels + c] = b.defined() ? b.const_data_ptr<float>()[c] : 0.0F;
      }
    }
    // Where something was added, only the output tells what ReLU cut off.
    context->save_for_backward({x, a.scale, a.shift, a.mean, added && relu ? y : at::Tensor(), gated});
    context->saved_data["affine"] = weight.has_value();
    context->saved_data["added"] = added.has_value();
    context->saved_data["relu"] = relu;
    context->saved_data["deviation"] = deviation;
    context->saved_data["counted"] = counted;
    // It is there until the backward pass is done (BatchPart).
    context->saved_data["sum"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(norm.sum));
    return y;
  }

  // With n rows, d = 1 / sqrt(variance + eps), s = gate * weight * d, and g the gradient of what ReLU gets:
  // gx = s * (g - sum(g) / n - (x - mean) * d^2 * sum(g * (x - mean)) / n). The gate multiplies
  // weight * d * (x - mean) + bias. Where several processes compute the batch, n and the sums of gx are of all of them;
  // the gradients of parameters are of each one's rows, as those of all other layers are.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor gy = in_order(gradients[0]);
    const int64_t channels = x.size(1), rows = x.numel() / channels;
    const auto* scale = saved[1].const_data_ptr<float>();
    const auto* shift = saved[2].const_data_ptr<float>();
    const auto* mean = saved[3].const_data_ptr<float>();
    std::vector<double> sum(static_cast<size_t>(channels)), product(static_cast<size_t>(channels));
    const at::Tensor& y = saved[4];
    bool relu = context->saved_data["relu"].toBool();
    at::Tensor passed = gy;  // by ReLU
    with_number_type(x, [&]<class A>(A) {
      if (y.defined()) {
        passed = at::empty_like(x);
        added_relu_gradient_sums(rows, channels, numbers<A>(gy), numbers<A>(y), numbers<A>(x), mean,
                                 numbers_of<A>(passed), sum.data(), product.data());
        relu = false;  // done
      } else {
        gradient_sums(rows, channels, numbers<A>(gy), numbers<A>(x), scale, shift, mean, relu, sum.data(),
                      product.data());
      }
    });
    const std::vector<double> deviation = context->saved_data["deviation"].toDoubleVector();
    const double n = context->saved_data["counted"].toDouble();
    const auto* over_parts =
        reinterpret_cast<const SumOverParts*>(static_cast<intptr_t>(context->saved_data["sum"].toInt()));
    at::Tensor gx, gw, gb, gg;
    if (context->needs_input_grad(0)) {
      const std::vector<double> sums = all_sums(sum, product, over_parts);
      std::vector<float> a(sum.size()), b(sum.size());
      for (size_t c = 0; c < sum.size(); ++c) {
        const double k = static_cast<double>(scale[c]) * deviation[c] * deviation[c] * sums[sum.size() + c] / n;
        a[c] = static_cast<float>(-k);
        b[c] = static_cast<float>(-static_cast<double>(scale[c]) * sums[c] / n);
      }
      gx = at::empty_like(x);
      with_number_type(x, [&]<class A>(A) {
        scale_shift_gradient(rows, channels, numbers<A>(passed), numbers<A>(x), scale, shift, mean, a.data(), b.data(),
                             relu, numbers_of<A>(gx));
      });
    }
    const float* gate = values_of(saved[5]);
    if (context->saved_data["affine"].toBool()) {
      gw = at::empty({channels}, at::kFloat);
      gb = at::empty({channels}, at::kFloat);
      for (size_t c = 0; c < sum.size(); ++c) {
        const double g = gate ? static_cast<double>(gate[c]) : 1.0;
        gw.mutable_data_ptr<float>()[c] = static_cast<float>(g * product[c] * deviation[c]);
        gb.mutable_data_ptr<float>()[c] = static_cast<float>(g * sum[c]);
      }
    }
    if (gate) {
      const float *weight = gate + channels, *bias = weight + channels;
      gg = at::empty({1, channels}, at::kFloat);
      for (size_t c = 0; c < sum.size(); ++c) {
        gg.mutable_data_ptr<float>()[c] = static_cast<float>(
            static_cast<double>(weight[c]) * deviation[c] * product[c] + static_cast<double>(bias[c]) * sum[c]);
      }
    }
    return {gx, gw, gb, gg, context->saved_data["added"].toBool() ? passed : at::Tensor(), {}, {}};
  }

 private:
  // Both one after the other, over all processes.
  static std::vector<double> all_sums(const std::vector<double>& sum, const std::vector<double>& product,
                                      const SumOverParts* over_parts) {
    std::vector<double> all(sum);
    all.insert(all.end(), product.begin(), product.end());
    if (over_parts) (*over_parts)(at::from_blob(all.data(), {static_cast<int64_t>(all.size())}, at::kDouble));
    return all;
  }
};

// An output pixel, an input pixel, and the weight's tap between them; each a number row by row.
struct Tap {
  int64_t out, in, tap;
};

std::vector<Tap> taps(int64_t height, int64_t width, int64_t kernel, int64_t padding) {
  std::vector<Tap> all;
  const int64_t out_height = height + 2 * padding - kernel + 1, out_width = width + 2 * padding - kernel + 1;
  for (int64_t oy = 0; oy < out_height; ++oy) {
    for (int64_t ox = 0; ox < out_width; ++ox) {
      for (int64_t ky = 0; ky < kernel; ++ky) {
        for (int64_t kx = 0; kx < kernel; ++kx) {
          const int64_t y = oy + ky - padding, x = ox + kx - padding;
          if (y >= 0 && y < height && x >= 0 && x < width)
            all.push_back({oy * out_width + ox, y * width + x, ky * kernel + kx});
        }
      }
    }
  }
  return all;
}

// [n, channels, height, width] in channels_last order as [n, pixels, channels].
at::Tensor pixels_of(const at::Tensor& x) {
  return x.permute({0, 2, 3, 1}).view({x.size(0), x.size(2) * x.size(3), x.size(1)});
}

class SmallConv : public Function<SmallConv> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, int64_t padding) {
    const int64_t kernel = weight.size(2), filters = weight.size(0);
    at::Tensor y =
        at::empty({x.size(0), filters, x.size(2) + 2 * padding - kernel + 1, x.size(3) + 2 * padding - kernel + 1},
                  x.options().memory_format(at::MemoryFormat::ChannelsLast));
    if (bias) {
      y.copy_(bias->view({1, filters, 1, 1}).expand_as(y));
    } else {
      y.zero_();
    }
    const at::Tensor xs = pixels_of(x), ws = pixels_of(weight), ys = pixels_of(y);
    for (const Tap& t : taps(x.size(2), x.size(3), kernel, padding))
      ys.select(1, t.out).addmm_(xs.select(1, t.in), ws.select(1, t.tap).t());
    context->save_for_backward({x, weight});
    context->saved_data["padding"] = padding;
    context->saved_data["bias"] = bias.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor gy = in_order(gradients[0]);
    const at::Tensor gys = pixels_of(gy);
    const auto all = taps(x.size(2), x.size(3), weight.size(2), context->saved_data["padding"].toInt());
    at::Tensor gx, gw, gb;
    if (context->needs_input_grad(0)) {
      gx = at::empty_like(x).zero_();
      const at::Tensor gxs = pixels_of(gx), ws = pixels_of(weight);
      for (const Tap& t : all) gxs.select(1, t.in).addmm_(gys.select(1, t.out), ws.select(1, t.tap));
    }
    if (context->needs_input_grad(1)) {
      gw = at::empty_like(weight).zero_();
      const at::Tensor gws = pixels_of(gw), xs = pixels_of(x);
      for (const Tap& t : all) gws.select(1, t.tap).addmm_(gys.select(1, t.out).t(), xs.select(1, t.in));
    }
    if (context->saved_data["bias"].toBool()) gb = gy.sum({0, 2, 3});
    return {gx, gw, gb, {}};
  }
};

}  // namespace

void refuse_second_derivative() {
  if (c10::GradMode::is_enabled())
    throw Error("the CPU's fused operations have no second derivative; take Pass{.fuse = false} for this pass");
}

bool is_fast_cpu(const at::Tensor& x) {
  return x.scalar_type() == at::kFloat && is_fast_activation(x);
}

bool is_fast_activation(const at::Tensor& x) {
  if (!x.is_cpu() || (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) || x.numel() == 0)
    return false;
  return x.dim() == 4 ? x.is_contiguous(at::MemoryFormat::ChannelsLast) : x.dim() == 2 && x.is_contiguous();
}

bool adds_into(const at::Tensor& weight) {
  const auto* asked = torch::autograd::get_current_graph_task_exec_info();
  return (!asked || asked->empty()) && weight.is_leaf() && weight.grad().defined();
}

at::Tensor every_pixel(const at::Tensor& images, int64_t stride) {
  return images.slice(2, std::nullopt, std::nullopt, stride).slice(3, std::nullopt, std::nullopt, stride);
}

at::Tensor fast_max_pool(const at::Tensor& x, int64_t kernel, int64_t stride, int64_t padding, bool relu) {
  if (kernel != 2 && kernel != 3) return {};
  return MaxPool::apply(x, kernel, stride, padding, relu);
}

at::Tensor fast_small_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding) {
  const int64_t kernel = weight.size(2), height = x.size(2), width = x.size(3);
  // Matrices must be large for the products to be fast; measured on 128 x 512 x 512.
  constexpr int64_t least_channels = 64;
  if (weight.size(0) < least_channels || weight.size(1) < least_channels || height * width > 16) return {};
  if (!weight.is_contiguous(at::MemoryFormat::ChannelsLast)) return {};
  const int64_t out = (height + 2 * padding - kernel + 1) * (width + 2 * padding - kernel + 1);
  if (2 * static_cast<int64_t>(taps(height, width, kernel, padding).size()) > out * kernel * kernel) return {};
  return SmallConv::apply(x, weight, given(bias), padding);
}

namespace {

// Mean and sum of squared deviations of the rows of all processes, from those of this one's. Returns how many rows
// these are. One message is enough if the squares are taken about zero: in float64 they lose (mean / deviation)^2 times
// 1e-16, which is less than the float32 numbers themselves leave open.
double over_all_parts(int64_t rows, int64_t channels, double* mean, double* squares, const SumOverParts& sum) {
  const auto c = static_cast<size_t>(channels);
  const auto own = static_cast<double>(rows);
  std::vector<double> all(2 * c + 1);
  for (size_t i = 0; i < c; ++i) {
    all[i] = own * mean[i];
    all[c + i] = squares[i] + own * mean[i] * mean[i];
  }
  all[2 * c] = own;
  sum(at::from_blob(all.data(), {static_cast<int64_t>(all.size())}, at::kDouble));
  const double counted = all[2 * c];
  for (size_t i = 0; i < c; ++i) {
    mean[i] = all[i] / counted;
    squares[i] = std::max(0.0, all[c + i] - counted * mean[i] * mean[i]);
  }
  return counted;
}

}  // namespace

double normalising(const at::Tensor& x, const NormTerm& norm, double* mean, double* deviation) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  auto counted = static_cast<double>(rows);
  if (norm.by_batch) {
    with_number_type(x,
                     [&]<class A>(A) { channel_moments(rows, channels, numbers<A>(x), mean, deviation); });  // squares
  }
  if (norm.by_batch && norm.sum) counted = over_all_parts(rows, channels, mean, deviation, *norm.sum);
  const bool keeps = norm.running_mean.defined();
  auto* rm = keeps ? norm.running_mean.mutable_data_ptr<float>() : nullptr;
  auto* rv = keeps ? norm.running_var.mutable_data_ptr<float>() : nullptr;
  for (int64_t c = 0; c < channels; ++c) {
    double variance = 0;
    if (norm.by_batch) {
      const double unbiased = deviation[c] / (counted - 1);
      variance = deviation[c] / counted;
      if (keeps) {
        const double m = norm.momentum;
        rm[c] = static_cast<float>((1 - m) * static_cast<double>(rm[c]) + m * mean[c]);
        rv[c] = static_cast<float>((1 - m) * static_cast<double>(rv[c]) + m * unbiased);
      }
    } else {
      mean[c] = static_cast<double>(rm[c]);
      variance = static_cast<double>(rv[c]);
    }
    deviation[c] = 1 / std::sqrt(variance + norm.eps);
  }
  return counted;
}

FoldedNorm fold_norm(const NormTerm& norm, const AfterNorm& after, size_t links) {
  const int64_t channels = norm.running_mean.numel();
  std::vector<double> mean(static_cast<size_t>(channels)), deviation(static_cast<size_t>(channels));
  const auto *m = norm.running_mean.const_data_ptr<float>(), *v = norm.running_var.const_data_ptr<float>();
  for (int64_t c = 0; c < channels; ++c) {
    mean[c] = static_cast<double>(m[c]);
    deviation[c] = 1 / std::sqrt(static_cast<double>(v[c]) + norm.eps);
  }
  const Affine a = affine(channels, mean.data(), deviation.data(), norm.weight, norm.bias, after.gate);
  return {a.scale, a.shift, after.added, after.relu, links};
}

at::Tensor fast_batch_norm(const at::Tensor& x, const NormTerm& norm, const AfterNorm& after) {
  if (norm.by_batch)
    return BatchNorm::apply(x, given(norm.weight), given(norm.bias), given(after.gate), given(after.added), after.relu,
                            norm);
  if (c10::GradMode::is_enabled()) return {};
  const FoldedNorm n = fold_norm(norm, after, 0);
  return scaled(x, {n.scale, n.shift, {}}, n.added, n.relu);
}

}  // namespace espalier
