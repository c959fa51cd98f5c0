#include "operations/kernel_sizes.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "espalier/parallel.h"
#include "fast_cpu.h"

namespace espalier {

namespace {

// Measured on a CPU with AVX-512, in multiply-accumulates of a vector at a pixel: a convolution of n filters costs
// channels * (side^2 + 1/2) for each 16 filters begun, and about this for being one more.
constexpr double overhead_of_a_class = 64;

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Channels in channels_last order, put where they belong (or taken from there) a pixel at a time; LibTorch's
// index_select would give up the order of the memory.
class PutChannels : public torch::autograd::Function<PutChannels> {
 public:
  // parts: [n, its channels, h, w] each (autograd sees them in a TensorList, not in a vector); places: the output's
  // channel of each of theirs.
  static at::Tensor forward(AutogradContext* context, at::TensorList parts,
                            const std::vector<std::vector<int64_t>>& places, int64_t channels) {
    const at::Tensor& first = parts.front();
    at::Tensor y = at::empty({first.size(0), channels, first.size(2), first.size(3)},
                             first.options().memory_format(at::MemoryFormat::ChannelsLast));
    const int64_t rows = y.numel() / channels;
    auto* out = y.mutable_data_ptr<float>();
    std::vector<at::Tensor> held;
    std::vector<const float*> in;
    for (const at::Tensor& p : parts) {
      held.push_back(p.contiguous(at::MemoryFormat::ChannelsLast));
      in.push_back(held.back().const_data_ptr<float>());
    }
    parallel_for(rows, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (size_t k = 0; k < in.size(); ++k) {
          const auto count = static_cast<int64_t>(places[k].size());
          const float* from = in[k] + r * count;
          for (int64_t i = 0; i < count; ++i) out[r * channels + places[k][static_cast<size_t>(i)]] = from[i];
        }
      }
    });
    context->saved_data["places"] = at::IValue(c10::List<std::vector<int64_t>>(places));
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor g = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const auto places = context->saved_data["places"].to<std::vector<std::vector<int64_t>>>();
    const int64_t channels = g.size(1), rows = g.numel() / channels;
    const auto* from = g.const_data_ptr<float>();
    variable_list result;
    for (const std::vector<int64_t>& place : places) {
      const auto count = static_cast<int64_t>(place.size());
      at::Tensor part = at::empty({g.size(0), count, g.size(2), g.size(3)},
                                  g.options().memory_format(at::MemoryFormat::ChannelsLast));
      auto* to = part.mutable_data_ptr<float>();
      parallel_for(rows, 1024, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t i = 0; i < count; ++i) to[r * count + i] = from[r * channels + place[static_cast<size_t>(i)]];
        }
      });
      result.push_back(std::move(part));
    }
    result.emplace_back();
    result.emplace_back();
    return result;
  }
};

}  // namespace

std::vector<KernelClass> kernel_classes(const Indices& sizes, int64_t side, int64_t channels) {
  // Filters by the side that they can run with.
  std::map<int64_t, Indices> by_side;
  std::map<int64_t, bool> smaller;
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) continue;
    const int64_t run = sizes[f] + (side - sizes[f]) % 2;
    by_side[run].push_back(static_cast<int64_t>(f));
    smaller[run] = smaller[run] || sizes[f] < run;
  }
  std::vector<int64_t> sides;
  for (const auto& [run, filters] : by_side) sides.push_back(run);
  // The cheapest partition of the sides into runs of neighbours, each at its largest.
  const auto cost = [&](size_t from, size_t to) {
    size_t filters = 0;
    for (size_t i = from; i <= to; ++i) filters += by_side[sides[i]].size();
    const size_t vectors = (filters + 15) / 16;
    const double taps = static_cast<double>(sides[to] * sides[to]) + 0.5;
    return static_cast<double>(channels) * taps * static_cast<double>(vectors) + overhead_of_a_class;
  };
  std::vector<double> best(sides.size() + 1, std::numeric_limits<double>::infinity());
  std::vector<size_t> begin(sides.size() + 1, 0);
  best[0] = 0;
  for (size_t to = 0; to < sides.size(); ++to) {
    for (size_t from = 0; from <= to; ++from) {
      const double c = best[from] + cost(from, to);
      if (c < best[to + 1]) {
        best[to + 1] = c;
        begin[to + 1] = from;
      }
    }
  }
  std::vector<KernelClass> classes;
  for (size_t to = sides.size(); to > 0; to = begin[to]) {
    KernelClass c;
    c.side = sides[to - 1];
    c.offset = (side - c.side) / 2;
    for (size_t i = begin[to]; i < to; ++i) {
      c.filters.insert(c.filters.end(), by_side[sides[i]].begin(), by_side[sides[i]].end());
      c.padded = c.padded || smaller[sides[i]] || i + 1 < to;
    }
    std::ranges::sort(c.filters);
    classes.push_back(std::move(c));
  }
  return classes;
}

at::Tensor convolve_sizes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const Indices& sizes,
                          KernelCorner first, int64_t stride, int64_t padding, bool fuse) {
  const int64_t side = weight.size(2), filters = weight.size(0);
  std::vector<at::Tensor> parts;
  std::vector<std::vector<int64_t>> places;
  for (const KernelClass& c : kernel_classes(sizes, side, weight.size(1))) {
    const at::Tensor at = at::tensor(c.filters, at::kLong).to(weight.device());
    const bool all = static_cast<int64_t>(c.filters.size()) == filters;
    at::Tensor w = all ? weight : weight.index_select(0, at);
    if (c.padded) {
      Indices own;
      for (const int64_t f : c.filters) own.push_back(sizes[static_cast<size_t>(f)]);
      w = w * kernel_mask(own, side, weight.options().requires_grad(false), first);
    }
    w = w.narrow(2, c.offset, c.side).narrow(3, c.offset, c.side).contiguous(at::MemoryFormat::ChannelsLast);
    // What the smaller kernel does not reach, it does not pad either.
    int64_t border = padding - c.offset;
    at::Tensor image = x;
    if (border < 0) {
      image = x.narrow(2, -border, x.size(2) + 2 * border).narrow(3, -border, x.size(3) + 2 * border);
      border = 0;
    }
    const at::Tensor b = !bias.defined() ? bias : all ? bias : bias.index_select(0, at);
    parts.push_back(at::conv2d(image, w, b, {stride, stride}, {border, border}));
    if (all) return parts.back();
    places.push_back(c.filters);
  }
  // Filters without a kernel give their bias.
  std::vector<int64_t> none;
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] == 0) none.push_back(static_cast<int64_t>(f));
  }
  if (!none.empty()) {
    const auto out = [&](int64_t n) { return (n + 2 * padding - side) / stride + 1; };
    const auto count = static_cast<int64_t>(none.size());
    at::Tensor constant = at::zeros({1, count, 1, 1}, x.options());
    if (bias.defined())
      constant = constant + bias.index_select(0, at::tensor(none, at::kLong).to(x.device())).view({1, count, 1, 1});
    parts.push_back(constant.expand({x.size(0), count, out(x.size(2)), out(x.size(3))}));
    places.push_back(none);
  }
  bool fast = fuse;
  for (const at::Tensor& p : parts) fast = fast && p.is_cpu() && p.scalar_type() == at::kFloat;
  if (fast) return PutChannels::apply(at::TensorList(parts), places, filters);
  std::vector<int64_t> order(static_cast<size_t>(filters));
  int64_t next = 0;
  for (const std::vector<int64_t>& place : places) {
    for (const int64_t f : place) order[static_cast<size_t>(f)] = next++;
  }
  return at::cat(parts, 1)
      .index_select(1, at::tensor(order, at::kLong).to(x.device()))
      .contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace espalier
