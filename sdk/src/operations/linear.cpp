#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>

#include "builtin.h"
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
        !at::autocast::is_autocast_enabled(at::kCPU)) {
      return {fast_linear(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor())};
    }
    return {at::linear(f.inputs[0], f.parameter(0), o_.bias ? f.parameter(1) : at::Tensor())};
  }

  int64_t macs(const Graph& g, const Node& node) const override { return g.numel(g[node.parameters[0]].shape); }

  Scaling scaling() const override { return Scaling::absorbs; }
  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> w = g.sizes(g[node.parameters[0]].shape);
    return {"nn.Linear(" + std::to_string(w[1]) + ", " + std::to_string(w[0]) + (o_.bias ? ")" : ", bias=False)"),
            "{self}({0})"};
  }
};

}  // namespace

Component linear_operation() {
  return component<Linear>(Linear::name, "linear layer");
}

}  // namespace espalier
