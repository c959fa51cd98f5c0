#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/weights.h"
#include "fast_bfloat16.h"
#include "fast_cpu.h"
#include "fast_linear.h"

namespace espalier {
namespace {

// [..., F] -> [..., features]. Weight [features, F]; several axes make their product, heads x head dimension.
class Linear final : public OperationOf<Linear, LinearOptions> {
 public:
  static constexpr const char* name = "linear";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape y = n.input(0);
    if (y.empty() || !y.back().has_axis())
      n.refuse("a linear layer needs an input of [features], or of tokens with the features last; flatten it first");
    Dim features = Dim::of(n.axis(0));
    for (size_t i = 1; i < n.axis_count(); ++i) features.segments[0].factors.push_back({n.axis(i), 1});
    const Dim in = y.back();
    Initializer init{Initializer::Kind::kaiming_uniform, std::sqrt(5.0)};
    if (o_.init == "normal") init = {Initializer::Kind::normal, o_.init_std};
    if (o_.init == "kaiming_normal_in") init = {Initializer::Kind::kaiming_normal_in, 0};
    if (o_.init == "xavier_uniform") init = {Initializer::Kind::xavier_uniform, 0};
    n.parameter("weight", "weight", {NodeBuilder::makes(features), NodeBuilder::reads(in)}, init);
    if (o_.bias) {
      n.parameter("bias", "bias", {NodeBuilder::makes(features)},
                  {o_.init == "default" ? Initializer::Kind::bias_by_fan_in : Initializer::Kind::constant, 0});
    }
    y.back() = features;
    n.output(std::move(y));
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    if (f.pass.fuse && x.is_cpu() && x.numel() > 0 && f.parameter(0).scalar_type() == at::kFloat) {
      const at::Tensor bias = o_.bias ? f.parameter(1) : at::Tensor();
      const at::Tensor rows = x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});  // tokens are so many rows
      const bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
      at::Tensor y;
      if (!autocast && is_fast_cpu(rows)) y = fast_linear(rows, f.parameter(0), bias);
      if (is_bfloat16_on_cpu(x)) y = fast_linear_bfloat16(rows, f.parameter(0), bias);
      if (y.defined()) {
        if (x.dim() == 2) return {y};
        std::vector<int64_t> sizes = x.sizes().vec();
        sizes.back() = y.size(1);
        return {y.view(sizes)};
      }
    }
    return {at::linear(x, f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor())};
  }

  int64_t macs(const Graph& g, const Node& node) const override {
    Shape tokens = g[node.inputs[0]].shape;
    tokens.pop_back();
    return g.numel(g[node.parameters[0]].shape) * g.numel(tokens);
  }

  Scaling scaling() const override { return Scaling::absorbs; }
  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> weight = g.sizes(g[node.parameters[0]].shape);
    return {.expression = o_.bias ? "F.linear({0}, {p0}, {p1})" : "F.linear({0}, {p0})",
            .module = "nn.Linear(" + std::to_string(weight[1]) + ", " + std::to_string(weight[0]) +
                      (o_.bias ? ")" : ", bias=False)")};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    if (g[node.inputs[0]].shape.size() == 1) {
      std::vector<std::string> inputs{to.input(0), to.parameter(0)};
      if (o_.bias) inputs.push_back(to.parameter(1));
      return {to.add("Gemm", inputs, {{"transB", int64_t{1}}})};
    }
    const std::string product = to.add("MatMul", {to.input(0), to.constant(to.values(0).t())});
    return {o_.bias ? to.add("Add", {product, to.parameter(1)}) : product};
  }
};

}  // namespace

Component linear_operation() {
  return component<Linear>(Linear::name, "linear layer");
}

}  // namespace espalier
