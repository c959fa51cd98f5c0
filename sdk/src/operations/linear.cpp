#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <c10/core/GradMode.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/weights.h"
#include "fast_cpu.h"

namespace espalier {
namespace {

// [F] -> [features]. Weight [features, F].
class Linear final : public OperationOf<Linear, LinearOptions> {
 public:
  static constexpr const char* name = "linear";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 1) n.refuse("a linear layer needs an input of [features]; flatten it first");
    const Dim features = Dim::of(n.axis(0));
    const Dim in = x[0];
    const bool normal = o_.init == "normal";
    n.parameter("weight", "weight", {NodeBuilder::makes(features), NodeBuilder::reads(in)},
                normal ? Initializer{Initializer::Kind::normal, o_.init_std}
                       : Initializer{Initializer::Kind::kaiming_uniform, std::sqrt(5.0)});
    if (o_.bias) {
      n.parameter("bias", "bias", {NodeBuilder::makes(features)},
                  {normal ? Initializer::Kind::constant : Initializer::Kind::bias_by_fan_in, 0});
    }
    n.output({features});
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    if (f.pass.fuse && is_fast_cpu(f.inputs[0]) && f.parameter(0).scalar_type() == at::kFloat &&
        c10::GradMode::is_enabled() && !at::autocast::is_autocast_enabled(at::kCPU)) {
      return {fast_linear(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor())};
    }
    return {at::linear(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor())};
  }

  int64_t macs(const Graph& g, const Node& node) const override { return g.numel(g[node.parameters[0]].shape); }

  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph&, const Node&) const override {
    return {o_.bias ? "F.linear({0}, {p0}, {p1})" : "F.linear({0}, {p0})"};
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
