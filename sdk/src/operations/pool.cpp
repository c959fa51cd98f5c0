#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mean.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "fast_cpu.h"

namespace espalier {
namespace {

template <bool Max>
class Pool final : public OperationOf<Pool<Max>, PoolOptions>, public WithRelu, public Repeatable {
 public:
  static constexpr const char* name = Max ? "max_pool" : "avg_pool";
  explicit Pool(PoolOptions o = {}) : OperationOf<Pool<Max>, PoolOptions>(o) {}

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 3) n.refuse("pooling needs an input of [channels, height, width]");
    if (2 * this->o_.padding > this->o_.kernel) n.refuse("the padding must be at most half of the kernel");
    const int64_t height = out(n.input_sizes(0)[1]);
    const int64_t width = out(n.input_sizes(0)[2]);
    if (height < 1 || width < 1)
      n.refuse("a window of " + std::to_string(this->o_.kernel) + " does not fit into the input");
    n.output({x[0], Dim::of(height), Dim::of(width)});
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    const int64_t k = this->o_.kernel;
    const int64_t s = stride();
    const int64_t p = this->o_.padding;
    if constexpr (Max) {
      if (f.pass.fuse) {
        if (at::Tensor y = fast(f.inputs[0], false); y.defined()) return {y};
      }
      return {at::max_pool2d(f.inputs[0], {k, k}, {s, s}, {p, p})};
    } else {
      return {at::avg_pool2d(f.inputs[0], {k, k}, {s, s}, {p, p}, /*ceil_mode=*/false, /*count_include_pad=*/false)};
    }
  }

  // Max pooling and ReLU commute.
  at::Tensor forward_with_relu(const at::Tensor& x) const override { return Max ? fast(x, true) : at::Tensor(); }
  Operation::Fused forward_chain(const Forward& f, const std::vector<Operation::Link>& chain) const override {
    return {Max && chain[0].node.op->type() == "relu" ? fast(f.inputs[0], true) : at::Tensor(), 1};
  }

  bool computes_like(const Operation& other) const override {
    const auto* same = dynamic_cast<const Pool*>(&other);
    return same && same->o_.kernel == this->o_.kernel && same->stride() == stride() &&
           same->o_.padding == this->o_.padding;
  }

  // A maximum passes only factors that are not negative.
  Operation::Scaling scaling() const override { return Max ? Operation::Scaling::none : Operation::Scaling::passes; }
  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph&, const Node&) const override {
    const auto pair = [](int64_t n) { return ", [" + std::to_string(n) + ", " + std::to_string(n) + "]"; };
    const std::string window = "({0}" + pair(this->o_.kernel) + pair(stride()) + pair(this->o_.padding);
    std::string module = Max ? "nn.MaxPool2d(" : "nn.AvgPool2d(";
    module += std::to_string(this->o_.kernel) + ", stride=" + std::to_string(stride());
    if (this->o_.padding) module += ", padding=" + std::to_string(this->o_.padding);
    return {.expression = Max ? "torch.max_pool2d" + window + ")" : "F.avg_pool2d" + window + ", False, False)",
            .module = module + (Max ? ")" : ", count_include_pad=False)")};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    OnnxNodes::Attributes window{{"kernel_shape", std::vector<int64_t>(2, this->o_.kernel)},
                                 {"strides", std::vector<int64_t>(2, stride())},
                                 {"pads", std::vector<int64_t>(4, this->o_.padding)}};
    if (!Max) window.emplace_back("count_include_pad", int64_t{0});
    return {to.add(Max ? "MaxPool" : "AveragePool", {to.input(0)}, window)};
  }

 private:
  at::Tensor fast(const at::Tensor& x, bool relu) const {
    return is_fast_cpu(x) ? fast_max_pool(x, this->o_.kernel, stride(), this->o_.padding, relu) : at::Tensor();
  }
  int64_t stride() const { return this->o_.stride ? this->o_.stride : this->o_.kernel; }
  int64_t out(int64_t in) const {
    const int64_t room = in + 2 * this->o_.padding - this->o_.kernel;
    return room < 0 ? 0 : room / stride() + 1;
  }
};

// [C, H, W] -> [C]: the mean of each channel.
class GlobalAvgPool final : public OperationOf<GlobalAvgPool, NoOptions> {
 public:
  static constexpr const char* name = "global_avg_pool";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input(0).size() != 3) n.refuse("pooling needs an input of [channels, height, width]");
    n.output({n.input(0)[0]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0].mean({2, 3})}; }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"{0}.mean([2, 3])"}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Flatten", {to.add("GlobalAveragePool", {to.input(0)})})};
  }
};

}  // namespace

std::vector<Component> pool_operations() {
  return {component<Pool<true>>("max_pool", "largest value of each window"),
          component<Pool<false>>("avg_pool", "mean of each window, the border not counted"),
          component<GlobalAvgPool>("global_avg_pool", "mean of each channel")};
}

}  // namespace espalier
