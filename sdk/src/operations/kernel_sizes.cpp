#include "operations/kernel_sizes.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/parallel.h"
#include "fast_cpu.h"
#include "kernels/channel_kernels.h"
#include "operations/direct_sizes.h"

namespace espalier {

namespace {

// Measured on a CPU with AVX-512, in multiply-accumulates of a vector at a pixel: a convolution of n filters costs
// channels * (side^2 + 1/2) for each 16 filters begun, and about this for being one more.
constexpr double overhead_of_a_class = 64;
constexpr size_t filters_of_a_vector = 16;

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr auto channels_last = at::MemoryFormat::ChannelsLast;

// What a layer computes, and how.
struct Plan {
  Indices sizes;
  KernelCorner first = KernelCorner::top_left;
  int64_t side = 0, stride = 1, padding = 0;
  int64_t height = 0, width = 0;  // of the output
  std::vector<KernelClass> classes;

  Plan(const at::Tensor& x, const at::Tensor& weight, Indices kernels, KernelCorner corner, int64_t step,
       int64_t border)
      : sizes(std::move(kernels)), first(corner), side(weight.size(2)), stride(step), padding(border) {
    const auto out = [&](int64_t n) { return (n + 2 * padding - side) / stride + 1; };
    height = out(x.size(2));
    width = out(x.size(3));
    // Kernels out of the middle begin at another pixel, which a stride would not meet.
    const double pixels = static_cast<double>(height) * static_cast<double>(width);
    const double more = static_cast<double>(height + 1) * static_cast<double>(width + 1) / pixels;
    classes = kernel_classes(sizes, side, weight.size(1), first, stride == 1 ? more : 0);
  }
};

// A class as a convolution of the images, or of what is left of them where its kernel is so small that it does not
// reach all of them.
struct Piece {
  int64_t crop = 0;             // of the images, on each side
  int64_t padding = 0;          // of what is left, on each side
  int64_t top = 0, bottom = 0;  // rows and columns of the result that are too many
  int64_t every = 1;            // of the pixels that are left, how many steps lie from one that is read to the next
  int64_t stride = 1;           // of the convolution of these

  Piece(const Plan& p, const KernelClass& c) : stride(p.stride) {
    const int64_t before = p.padding - c.offset, behind = p.padding - (p.side - c.side - c.offset);
    const int64_t border = std::max(before, behind);
    crop = std::max<int64_t>(0, -border);
    padding = border + crop;
    top = border - before;
    bottom = border - behind;
    if (c.side == 1 && padding == 0) std::swap(every, stride);
  }
  at::Tensor of(const at::Tensor& x) const {
    const at::Tensor left =
        crop == 0 ? x : x.narrow(2, crop, x.size(2) - 2 * crop).narrow(3, crop, x.size(3) - 2 * crop);
    return every == 1 ? left : every_pixel(left, every);
  }
};

at::Tensor indices(const Indices& at, const at::Tensor& like) {
  return at::tensor(at, at::kLong).to(like.device());
}

// Ones where the filters of a class have their kernels.
at::Tensor mask_of(const Plan& p, const KernelClass& c, const at::Tensor& weight) {
  Indices own;
  for (const int64_t f : c.filters) own.push_back(p.sizes[static_cast<size_t>(f)]);
  return kernel_mask(own, p.side, weight.options().requires_grad(false), p.first)
      .narrow(2, c.offset, c.side)
      .narrow(3, c.offset, c.side);
}

at::Tensor weight_of(const Plan& p, const KernelClass& c, const at::Tensor& weight) {
  at::Tensor w = weight.narrow(2, c.offset, c.side).narrow(3, c.offset, c.side);
  if (std::ssize(c.filters) < weight.size(0)) w = w.index_select(0, indices(c.filters, weight));
  if (c.padded) w = w * mask_of(p, c, weight);
  return w.contiguous(channels_last);
}

// Filters without a kernel.
Indices none_of(const Indices& sizes) {
  Indices none;
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) none.push_back(static_cast<int64_t>(f));
  }
  return none;
}

// [pixels of all images, channels] of images in channels_last order.
at::Tensor rows_of(const at::Tensor& images) {
  return images.permute({0, 2, 3, 1}).reshape({-1, images.size(1)});
}

// A convolution for each class; the results are put in their places a pixel at a time, with the bias. LibTorch's `cat`
// and `index_select` would copy them twice and give up the order of the memory.
class ConvolveSizes : public torch::autograd::Function<ConvolveSizes> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const Indices& sizes, bool top_left, int64_t stride,
                            int64_t padding) {
    const KernelCorner first = top_left ? KernelCorner::top_left : KernelCorner::bottom_right;
    context->save_for_backward({x, weight});
    context->saved_data["sizes"] = sizes;
    context->saved_data["top_left"] = top_left;
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    context->saved_data["bias"] = bias.has_value();
    const int64_t channels = weight.size(0);
    std::vector<float> shift(static_cast<size_t>(channels), 0);
    if (bias) {
      const at::Tensor b = bias->contiguous();
      std::copy_n(b.const_data_ptr<float>(), channels, shift.data());
    }
    if (DirectSizes::is_possible(weight.size(2), padding))
      return DirectSizes(sizes, weight.size(2), first, stride, padding).forward(x, weight, shift);

    const Plan p(x, weight, sizes, first, stride, padding);
    at::Tensor y = at::empty({x.size(0), channels, p.height, p.width}, x.options().memory_format(channels_last));
    struct Part {
      at::Tensor result;
      int64_t top, height, width;
    };
    std::vector<Part> parts;
    for (const KernelClass& c : p.classes) {
      const Piece piece(p, c);
      const at::Tensor r = at::conv2d(piece.of(x), weight_of(p, c, weight), {}, {piece.stride, piece.stride},
                                      {piece.padding, piece.padding})
                               .contiguous(channels_last);
      parts.push_back({r, piece.top, r.size(2), r.size(3)});
    }
    // Filters without a kernel give their bias.
    int32_t next = 0;
    for (const KernelClass& c : p.classes) next += static_cast<int32_t>(c.filters.size());
    std::vector<int32_t> source(static_cast<size_t>(channels), next);
    next = 0;
    for (const KernelClass& c : p.classes) {
      for (const int64_t f : c.filters) source[static_cast<size_t>(f)] = next++;
    }
    Indices counts;
    for (const Part& part : parts) counts.push_back(part.result.size(1));
    const ChannelJoin join(counts, source, shift);
    auto* out = y.mutable_data_ptr<float>();
    // Rows of pixels.
    parallel_for(x.size(0) * p.height, 32, [&](int64_t begin, int64_t end) {
      std::vector<ChannelPart> of_row(parts.size());
      for (int64_t row = begin; row < end; ++row) {
        const int64_t image = row / p.height, at = row % p.height;
        for (size_t i = 0; i < parts.size(); ++i) {
          const Part& part = parts[i];
          const int64_t pixel = (image * part.height + at + part.top) * part.width + part.top;
          of_row[i] = {part.result.const_data_ptr<float>() + pixel * counts[i], counts[i], pixel * counts[i]};
        }
        join(of_row, p.width, out + row * p.width * channels);
      }
    });
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const int64_t stride = context->saved_data["stride"].toInt();
    const int64_t padding = context->saved_data["padding"].toInt();
    const Indices sizes = context->saved_data["sizes"].toIntVector();
    const KernelCorner first =
        context->saved_data["top_left"].toBool() ? KernelCorner::top_left : KernelCorner::bottom_right;
    const bool for_x = context->needs_input_grad(0), for_weight = context->needs_input_grad(1);
    const at::Tensor gy = gradients[0].contiguous(channels_last);
    at::Tensor gx, gw, gb;
    if (for_weight) gw = at::zeros_like(weight, weight.options(), channels_last);
    if (context->saved_data["bias"].toBool()) gb = gy.sum({0, 2, 3});
    if (DirectSizes::is_possible(weight.size(2), padding)) {
      const DirectSizes direct(sizes, weight.size(2), first, stride, padding);
      if (direct.has_gradients(x.size(1))) {
        if (for_x) gx = at::empty_like(x);
        direct.backward(x, weight, gy, gx, gw);
        return {gx, gw, gb, {}, {}, {}, {}};
      }
    }
    const Plan p(x, weight, sizes, first, stride, padding);
    for (const KernelClass& c : p.classes) {
      const Piece piece(p, c);
      const at::Tensor images = piece.of(x);
      const at::Tensor part = part_of(gy, c, p, piece);
      // The gradient of 1x1 kernels is a product of matrices; LibTorch's convolution takes ten times as long for it
      // where there are few filters.
      const bool as_product = for_weight && c.side == 1 && piece.stride == 1 && piece.padding == 0;
      auto [gi, gv, unused] = at::convolution_backward(
          part, images, weight_of(p, c, weight), std::nullopt, {piece.stride, piece.stride},
          {piece.padding, piece.padding}, {1, 1}, false, {0, 0}, 1, {for_x, for_weight && !as_product, false});
      if (as_product) gv = rows_of(part).t().mm(rows_of(images)).view({part.size(1), images.size(1), 1, 1});
      if (for_x && !gx.defined() && piece.crop == 0 && piece.every == 1) {
        gx = gi;
      } else if (for_x) {
        if (!gx.defined()) gx = at::zeros_like(x, x.options(), channels_last);
        piece.of(gx).add_(gi);
      }
      if (!for_weight) continue;
      const at::Tensor own = c.padded ? gv * mask_of(p, c, weight) : gv;
      gw.narrow(2, c.offset, c.side).narrow(3, c.offset, c.side).index_copy_(0, indices(c.filters, weight), own);
    }
    if (for_x && !gx.defined()) gx = at::zeros_like(x, x.options(), channels_last);
    return {gx, gw, gb, {}, {}, {}, {}};
  }

 private:
  // The gradient of what a class gave: its channels, and zeros in rows and columns that nobody took.
  static at::Tensor part_of(const at::Tensor& gy, const KernelClass& c, const Plan& p, const Piece& piece) {
    const int64_t channels = gy.size(1), more = piece.top + piece.bottom;
    const auto count = std::ssize(c.filters);
    at::Tensor part =
        at::empty({gy.size(0), count, p.height + more, p.width + more}, gy.options().memory_format(channels_last));
    const ChannelTake take(channels, {c.filters.begin(), c.filters.end()});
    const auto* from = gy.const_data_ptr<float>();
    auto* to = part.mutable_data_ptr<float>();
    const int64_t height = p.height + more, width = p.width + more;
    parallel_for(gy.size(0) * height, 32, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row % height - piece.top;
        float* out = to + row * width * count;
        if (at < 0 || at >= p.height) {
          std::fill_n(out, width * count, 0.0F);
          continue;
        }
        const float* in = from + (row / height * p.height + at) * p.width * channels;
        out = std::fill_n(out, piece.top * count, 0.0F);
        take(in, p.width, out);
        std::fill_n(out + p.width * count, piece.bottom * count, 0.0F);
      }
    });
    return part;
  }
};

}  // namespace

std::vector<KernelClass> kernel_classes(const Indices& sizes, int64_t side, int64_t channels, KernelCorner first,
                                        double border) {
  // Of each filter the side that it would run with alone, and how much a tap of it costs.
  const auto centred = [&](int64_t s) { return s + (side - s) % 2; };
  const auto run = [&](int64_t s) {
    const auto own = static_cast<double>(s * s), middle = static_cast<double>(centred(s) * centred(s));
    return border > 0 && own * border < middle ? s : centred(s);
  };
  const auto taps = [&](int64_t s) { return static_cast<double>(s * s) * (s == centred(s) ? 1 : border); };
  Indices filters;
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] > 0) filters.push_back(static_cast<int64_t>(f));
  }
  const auto side_of = [&](int64_t f) { return run(sizes[static_cast<size_t>(f)]); };
  std::ranges::stable_sort(filters, std::ranges::greater(), side_of);
  // The cheapest partition into runs of neighbouring vectors, each at the side of its first filter.
  const size_t vectors = (filters.size() + filters_of_a_vector - 1) / filters_of_a_vector;
  const auto side_at = [&](size_t vector) { return side_of(filters[vector * filters_of_a_vector]); };
  std::vector<double> best(vectors + 1, std::numeric_limits<double>::infinity());
  std::vector<size_t> begin(vectors + 1, 0);
  best[0] = 0;
  for (size_t to = 1; to <= vectors; ++to) {
    for (size_t from = 0; from < to; ++from) {
      const double c = best[from] + overhead_of_a_class +
                       static_cast<double>(channels) * (taps(side_at(from)) + 0.5) * static_cast<double>(to - from);
      if (c < best[to]) {
        best[to] = c;
        begin[to] = from;
      }
    }
  }
  std::vector<KernelClass> classes;
  for (size_t to = vectors; to > 0; to = begin[to]) {
    KernelClass c;
    c.side = side_at(begin[to]);
    c.offset = c.side == centred(c.side) ? (side - c.side) / 2 : kernel_offset(side, c.side, first);
    const auto at = [&](size_t vector) {
      return filters.begin() + static_cast<int64_t>(std::min(filters.size(), vector * filters_of_a_vector));
    };
    c.filters.assign(at(begin[to]), at(to));
    for (const int64_t f : c.filters) c.padded = c.padded || sizes[static_cast<size_t>(f)] < c.side;
    std::ranges::sort(c.filters);
    classes.push_back(std::move(c));
  }
  return classes;
}

at::Tensor convolve_sizes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const Indices& sizes,
                          KernelCorner first, int64_t stride, int64_t padding, bool fuse) {
  const Plan p(x, weight, sizes, first, stride, padding);
  const auto convolve = [&](const KernelClass& c, const at::Tensor& b) {
    const Piece piece(p, c);
    const at::Tensor y = at::conv2d(piece.of(x), weight_of(p, c, weight), b, {piece.stride, piece.stride},
                                    {piece.padding, piece.padding});
    return piece.top + piece.bottom == 0 ? y : y.narrow(2, piece.top, p.height).narrow(3, piece.top, p.width);
  };
  const int64_t filters = weight.size(0);
  if (p.classes.size() == 1 && std::ssize(p.classes[0].filters) == filters)
    return convolve(p.classes[0], bias).contiguous(channels_last);
  if (fuse && is_fast_cpu(x) && weight.scalar_type() == at::kFloat && !at::autocast::is_autocast_enabled(at::kCPU)) {
    return ConvolveSizes::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, sizes,
                                first == KernelCorner::top_left, stride, padding);
  }
  std::vector<at::Tensor> parts;
  Indices order(static_cast<size_t>(filters));
  int64_t next = 0;
  const auto put = [&](const at::Tensor& part, const Indices& places) {
    parts.push_back(part);
    for (const int64_t f : places) order[static_cast<size_t>(f)] = next++;
  };
  for (const KernelClass& c : p.classes) {
    put(convolve(c, bias.defined() ? bias.index_select(0, indices(c.filters, bias)) : at::Tensor()), c.filters);
  }
  // Filters without a kernel give their bias.
  if (const Indices none = none_of(sizes); !none.empty()) {
    const auto count = std::ssize(none);
    at::Tensor constant = at::zeros({1, count, 1, 1}, x.options());
    if (bias.defined()) constant = constant + bias.index_select(0, indices(none, bias)).view({1, count, 1, 1});
    put(constant.expand({x.size(0), count, p.height, p.width}), none);
  }
  return at::cat(parts, 1).index_select(1, indices(order, x)).contiguous(channels_last);
}

}  // namespace espalier
