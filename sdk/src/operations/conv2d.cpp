#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/weights.h"
#include "fast_cpu.h"

namespace espalier {
namespace {

// [C, H, W] -> [filters, H', W'], square kernels. Weight [filters, C, kernel, kernel].
class Conv2d final : public OperationOf<Conv2d, ConvOptions> {
 public:
  static constexpr const char* name = "conv2d";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 3) n.refuse("a convolution needs an input of [channels, height, width]");
    const int64_t height = out(n.input_sizes(0)[1]);
    const int64_t width = out(n.input_sizes(0)[2]);
    if (height < 1 || width < 1) n.refuse("a kernel of " + std::to_string(o_.kernel) + " does not fit into the input");
    const Dim filters = Dim::of(n.axis(0));
    const Dim channels = x[0];
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
    if (f.pass.fuse && o_.stride == 1 && is_fast_cpu(f.inputs[0]) && f.parameter(0).scalar_type() == at::kFloat &&
        !at::autocast::is_autocast_enabled(at::kCPU)) {
      const at::Tensor y =
          fast_small_conv(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), o_.padding);
      if (y.defined()) return {y};
    }
    return {at::conv2d(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor(), {o_.stride, o_.stride},
                       {o_.padding, o_.padding})};
  }

  int64_t macs(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> y = g.sizes(g[node.outputs[0]].shape);
    return g.numel(g[node.parameters[0]].shape) * y[1] * y[2];
  }

  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph&, const Node&) const override {
    const auto pair = [](int64_t n) { return "[" + std::to_string(n) + ", " + std::to_string(n) + "]"; };
    return {std::string("torch.conv2d({0}, {p0}, ") + (o_.bias ? "{p1}" : "None") + ", " + pair(o_.stride) + ", " +
            pair(o_.padding) + ")"};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    std::vector<std::string> inputs{to.input(0), to.parameter(0)};
    if (o_.bias) inputs.push_back(to.parameter(1));
    return {to.add("Conv", inputs,
                   {{"kernel_shape", std::vector<int64_t>{o_.kernel, o_.kernel}},
                    {"strides", std::vector<int64_t>{o_.stride, o_.stride}},
                    {"pads", std::vector<int64_t>(4, o_.padding)}})};
  }

 private:
  int64_t out(int64_t in) const {
    return (in + 2 * o_.padding - o_.kernel) < 0 ? 0 : (in + 2 * o_.padding - o_.kernel) / o_.stride + 1;
  }
};

}  // namespace

Component conv2d_operation() {
  return component<Conv2d>(Conv2d::name, "convolution of images, square kernels");
}

}  // namespace espalier
