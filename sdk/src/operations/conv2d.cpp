#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/rewrite.h"
#include "espalier/weights.h"
#include "fast_bfloat16.h"
#include "fast_cpu.h"
#include "fast_winograd.h"
#include "operations/kernel_sizes.h"

namespace espalier {
namespace {

// [C, H, W] -> [filters, H', W'], square kernels. Weight [filters, C, kernel, kernel]. Grouped: C is groups x channels,
// the filters are groups x filters (of one group), and the weight is [filters, channels, kernel, kernel]. Depthwise:
// weight and output have the input's channels, weight [C, 1, kernel, kernel].
class Conv2d final : public OperationOf<Conv2d, ConvOptions> {
 public:
  static constexpr const char* name = "conv2d";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 3)
      n.refuse("a convolution needs an input of [channels, height, width]; of vectors, mlp and linear learn");
    const int64_t height = out(n.input_sizes(0)[1]);
    const int64_t width = out(n.input_sizes(0)[2]);
    if (height < 1 || width < 1) n.refuse("a kernel of " + std::to_string(o_.kernel) + " does not fit into the input");
    if (!o_.sizes.empty() && (o_.grouped || o_.depthwise || o_.dilation != 1))
      n.refuse("only convolutions without groups and dilation have kernels of several sizes");
    if (o_.grouped && o_.depthwise) n.refuse("a convolution is grouped or depthwise, not both");
    Dim filters = o_.depthwise ? x[0] : Dim::of(n.axis(0));
    Dim channels = o_.depthwise ? Dim::of(int64_t{1}) : x[0];
    if (o_.grouped) {
      if (channels.segments.size() != 1 || channels.segments[0].factors.size() < 2)
        n.refuse("groups need channels that are groups x channels of one axis each");
      std::vector<Factor>& factors = channels.segments[0].factors;
      filters = {{{{factors.front(), {n.axis(0), 1}}}}};
      factors.erase(factors.begin());
    }
    Initializer init{Initializer::Kind::kaiming_uniform, std::sqrt(5.0)};
    if (o_.init == "kaiming_normal_in") init = {Initializer::Kind::kaiming_normal_in, 0};
    if (o_.init == "kaiming_normal_out") init = {Initializer::Kind::kaiming_normal_out, 0};
    n.parameter("weight", "weight",
                {NodeBuilder::makes(filters), NodeBuilder::reads(channels), NodeBuilder::makes(Dim::of(o_.kernel)),
                 NodeBuilder::makes(Dim::of(o_.kernel))},
                init);
    if (o_.bias) {
      const auto bias_init = o_.init == "default" ? Initializer::Kind::bias_by_fan_in : Initializer::Kind::constant;
      n.parameter("bias", "bias", {NodeBuilder::makes(filters)}, {bias_init, 0});
    }
    n.output({filters, Dim::of(height), Dim::of(width)});
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    if (!o_.sizes.empty()) {
      return {convolve_sizes(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), o_.sizes,
                             kernel_corner(), o_.stride, o_.padding, f.pass.fuse)};
    }
    if (f.pass.fuse && is_plain(f)) {
      const at::Tensor y =
          fast_small_conv(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), o_.padding);
      if (y.defined()) return {y};
      if (const at::Tensor z =
              fast_winograd(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), o_.padding);
          z.defined())
        return {z};
    }
    if (f.pass.fuse && o_.dilation == 1 && !o_.grouped && !o_.depthwise && is_bfloat16_on_cpu(f.inputs[0]) &&
        f.parameter(0).scalar_type() == at::kFloat) {
      const at::Tensor y = fast_conv_bfloat16(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(),
                                              o_.stride, o_.padding);
      if (y.defined()) return {y};
    }
    at::Tensor x = f.inputs[0];
    int64_t stride = o_.stride;
    if (o_.kernel == 1 && stride > 1 && o_.padding == 0 && x.is_cpu()) {
      x = every_pixel(x, stride);
      stride = 1;
    }
    if (f.pass.fuse && is_bfloat16_on_cpu(x) && is_bfloat16_slow() && f.parameter(0).scalar_type() == at::kFloat) {
      return {conv_through_float(x, f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), stride, o_.padding,
                                 o_.dilation, groups(f.graph, f.node))};
    }
    return {at::conv2d(x, f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), {stride, stride},
                       {o_.padding, o_.padding}, {o_.dilation, o_.dilation}, groups(f.graph, f.node))};
  }

  // In evaluation with a batch norm behind it and what is computed with that.
  Fused forward_chain(const Forward& f, const std::vector<Link>& chain) const override {
    const auto* norm = dynamic_cast<const FoldableNorm*>(chain[0].node.op.get());
    if (!norm || f.pass.training || c10::GradMode::is_enabled() || !is_plain(f)) return {};
    const at::Tensor &x = f.inputs[0], bias = o_.bias ? f.parameter(1) : at::Tensor();
    const int64_t size[] = {x.size(0), f.parameter(0).size(0), out(x.size(2)), out(x.size(3))};
    const std::vector<at::Tensor> none(1);
    const auto folded =
        norm->fold({f.graph, chain[0].node, f.weights, f.pass, none}, std::span(chain).subspan(1), size);
    if (!folded) return {};
    return {fast_winograd_folded(x, f.parameter(0), bias, o_.padding, *folded), 1 + folded->links};
  }

  int64_t macs(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> y = g.sizes(g[node.outputs[0]].shape);
    return taps(g, node) * y[1] * y[2];
  }

  int64_t parameter_count(const Graph& g, const Node& node) const override {
    return taps(g, node) + (o_.bias ? g.numel(g[node.parameters[1]].shape) : 0);
  }

  Indices kernel_sizes(const Graph& g, const Node& node) const override {
    if (!o_.sizes.empty()) return o_.sizes;
    return Indices(static_cast<size_t>(g.size(g[node.parameters[0]].shape[0])), o_.kernel);
  }

  KernelCorner kernel_corner() const override {
    return o_.corner == "top_left" ? KernelCorner::top_left : KernelCorner::bottom_right;
  }

  std::shared_ptr<const Operation> with_kernel_sizes(const Indices& sizes, KernelCorner first) const override {
    if (o_.grouped || o_.depthwise || o_.dilation != 1) return nullptr;
    ConvOptions o = o_;
    // The whole kernel loses what no filter has any more, as long as it stays centred.
    const int64_t spare = std::min((o.kernel - std::ranges::max(sizes)) / 2, o.padding);
    o.kernel -= 2 * spare;
    o.padding -= spare;
    o.sizes = sizes;
    o.corner = first == KernelCorner::top_left ? "top_left" : "bottom_right";
    if (std::ranges::all_of(sizes, [&](int64_t s) { return s == o.kernel; })) o.sizes.clear();
    return std::make_shared<Conv2d>(std::move(o));
  }

  std::shared_ptr<const Operation> follow(const Graph& before, const Node& node,
                                          const std::vector<AxisChange>& changes) const override {
    const auto from = o_.sizes.empty() ? std::nullopt : gather(before, before[node.parameters[0]].shape[0], changes);
    if (!from) return nullptr;
    ConvOptions o = o_;
    o.sizes.clear();
    for (const int64_t f : *from) o.sizes.push_back(f < 0 ? o.kernel : o_.sizes[static_cast<size_t>(f)]);
    if (std::ranges::all_of(o.sizes, [&](int64_t s) { return s == o.kernel; })) o.sizes.clear();
    return std::make_shared<Conv2d>(std::move(o));
  }

  Scaling scaling() const override { return Scaling::absorbs; }
  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph& g, const Node& node) const override {
    const auto pair = [](int64_t n) { return to_string({n, n}); };
    const std::string parameters = std::string("{p0}, ") + (o_.bias ? "{p1}" : "None");
    if (o_.sizes.empty()) {
      const std::vector<int64_t> weight = g.sizes(g[node.parameters[0]].shape);
      const int64_t parts = groups(g, node);
      std::string module = "nn.Conv2d(" + std::to_string(weight[1] * parts) + ", " + std::to_string(weight[0]) + ", " +
                           std::to_string(o_.kernel);
      const auto add = [&](const char* option, int64_t value, int64_t usual) {
        if (value != usual) module += std::string(", ") + option + "=" + std::to_string(value);
      };
      add("stride", o_.stride, 1);
      add("padding", o_.padding, 0);
      add("dilation", o_.dilation, 1);
      add("groups", parts, 1);
      return {.expression = "torch.conv2d({0}, " + parameters + ", " + pair(o_.stride) + ", " + pair(o_.padding) +
                            ", " + pair(o_.dilation) + ", " + std::to_string(parts) + ")",
              .module = module + (o_.bias ? ")" : ", bias=False)")};
    }
    std::string filters, sides;
    for (const KernelClass& c : exported_classes(g, node)) {
      filters += (filters.empty() ? "" : ", ") + to_string(c.filters);
      sides += (sides.empty() ? "" : ", ") + std::to_string(c.side);
    }
    return {"convolve_sizes({0}, " + parameters + ", [" + filters + "], [" + sides + "], " + std::to_string(o_.stride) +
                ", " + std::to_string(o_.padding) + ")",
            R"py(def convolve_sizes(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor],
                   filters: List[List[int]], sides: List[int], stride: int, padding: int) -> torch.Tensor:
    """One convolution for each size of kernel, the filters in their order again; side 0: only the bias."""
    parts: List[torch.Tensor] = []
    order: List[int] = []
    for i in range(len(sides)):
        at = torch.tensor(filters[i], device=x.device)
        side = sides[i] if sides[i] > 0 else weight.size(2)
        offset = (weight.size(2) - side) // 2
        w = weight.index_select(0, at).narrow(2, offset, side).narrow(3, offset, side)
        border = padding - offset
        image = x
        if border < 0:
            image = x.narrow(2, -border, x.size(2) + 2 * border).narrow(3, -border, x.size(3) + 2 * border)
            border = 0
        b = bias.index_select(0, at) if bias is not None else None
        parts.append(torch.conv2d(image, w if sides[i] > 0 else w * 0, b, [stride, stride], [border, border]))
        order += filters[i]
    return torch.cat(parts, 1).index_select(1, torch.argsort(torch.tensor(order, device=x.device)))
)py"};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const auto conv = [&](const std::string& x, const std::string& weight, const std::string& bias, int64_t side,
                          int64_t padding) {
      std::vector<std::string> inputs{x, weight};
      if (o_.bias) inputs.push_back(bias);
      return to.add("Conv", inputs,
                    {{"kernel_shape", std::vector<int64_t>{side, side}},
                     {"strides", std::vector<int64_t>{o_.stride, o_.stride}},
                     {"pads", std::vector<int64_t>(4, padding)},
                     {"dilations", std::vector<int64_t>{o_.dilation, o_.dilation}},
                     {"group", groups(g, node)}});
    };
    if (o_.sizes.empty())
      return {conv(to.input(0), to.parameter(0), o_.bias ? to.parameter(1) : "", o_.kernel, o_.padding)};
    std::vector<std::string> parts;
    std::vector<int64_t> order(o_.sizes.size());
    int64_t next = 0;
    for (const KernelClass& c : exported_classes(g, node)) {
      const at::Tensor at = at::tensor(c.filters, at::kLong);
      const int64_t side = c.side > 0 ? c.side : 1, offset = (o_.kernel - side) / 2;
      at::Tensor w = to.values(0).index_select(0, at).narrow(2, offset, side).narrow(3, offset, side);
      if (c.side == 0) w = w * 0;
      std::string x = to.input(0);
      int64_t border = o_.padding - offset;
      if (border < 0) {
        // ONNX's convolution cannot crop by negative padding.
        const auto list = [&](int64_t a, int64_t b) { return to.constant(at::tensor({a, b}, at::kLong)); };
        x = to.add("Slice", {x, list(-border, -border), list(border, border), list(2, 3)});
        border = 0;
      }
      parts.push_back(conv(x, to.constant(w.contiguous()),
                           o_.bias ? to.constant(to.values(1).index_select(0, at).contiguous()) : "", side, border));
      for (const int64_t f : c.filters) order[static_cast<size_t>(f)] = next++;
    }
    return {to.add("Gather",
                   {to.add("Concat", parts, {{"axis", int64_t{1}}}), to.constant(at::tensor(order, at::kLong))},
                   {{"axis", int64_t{1}}})};
  }

 private:
  // Whether it is an ordinary convolution of float32 numbers on the CPU, with stride 1.
  bool is_plain(const Forward& f) const {
    return o_.sizes.empty() && o_.stride == 1 && o_.dilation == 1 && !o_.grouped && !o_.depthwise &&
           is_fast_cpu(f.inputs[0]) && f.parameter(0).scalar_type() == at::kFloat &&
           !at::autocast::is_autocast_enabled(at::kCPU);
  }

  // With the filters that have no kernel, if any, as side 0.
  std::vector<KernelClass> exported_classes(const Graph& g, const Node& node) const {
    std::vector<KernelClass> classes = kernel_classes(o_.sizes, o_.kernel, g.size(g[node.parameters[0]].shape[1]));
    KernelClass none;
    for (size_t f = 0; f < o_.sizes.size(); ++f) {
      if (o_.sizes[f] == 0) none.filters.push_back(static_cast<int64_t>(f));
    }
    if (!none.filters.empty()) classes.push_back(std::move(none));
    return classes;
  }
  // Of all filters.
  int64_t taps(const Graph& g, const Node& node) const {
    const Shape& w = g[node.parameters[0]].shape;
    if (o_.sizes.empty()) return g.numel(w);
    int64_t sum = 0;
    for (const int64_t s : o_.sizes) sum += s * s;
    return sum * g.size(w[1]);
  }
  int64_t groups(const Graph& g, const Node& node) const {
    if (!o_.grouped && !o_.depthwise) return 1;
    const Dim& filters = g[node.parameters[0]].shape[0];
    return o_.depthwise ? g.size(filters) : g.size(Segment{{filters.segments[0].factors[0]}});
  }
  int64_t out(int64_t in) const {
    const int64_t room = in + 2 * o_.padding - o_.dilation * (o_.kernel - 1) - 1;
    return room < 0 ? 0 : room / o_.stride + 1;
  }
};

}  // namespace

Component conv2d_operation() {
  return component<Conv2d>(Conv2d::name, "convolution of images, square kernels");
}

}  // namespace espalier
