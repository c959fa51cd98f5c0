#include <numbers>

#include <ATen/ops/clamp.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "fast_gelu.h"

namespace espalier {
namespace {

using Function = at::Tensor (*)(const at::Tensor&);

at::Tensor gelu(const at::Tensor& x) {
  return at::gelu(x);
}

at::Tensor relu6(const at::Tensor& x) {
  return at::clamp(x, 0, 6);
}

struct Activated {
  const char* name;
  Function function;
  bool preserves_zero;
  const char* python;
  const char* module;
  const char* onnx;
};

constexpr Activated activations[] = {{"relu", at::relu, true, "torch.relu({0})", "nn.ReLU()", "Relu"},
                                     {"gelu", gelu, true, "F.gelu({0})", "nn.GELU()", "Gelu"},
                                     {"sigmoid", at::sigmoid, false, "torch.sigmoid({0})", "nn.Sigmoid()", "Sigmoid"},
                                     {"tanh", at::tanh, true, "torch.tanh({0})", "nn.Tanh()", "Tanh"},
                                     {"relu6", relu6, true, "torch.clamp({0}, 0.0, 6.0)", "nn.ReLU6()", "Clip"},
                                     {"silu", at::silu, true, "({0} * torch.sigmoid({0}))", "nn.SiLU()", "Swish"}};

std::string constant(OnnxNodes& to, double value) {
  return to.constant(at::tensor(value, to.dtype()));
}

// An element-wise function; the shape stays.
template <int I>
class Activation final : public OperationOf<Activation<I>, NoOptions>, public Repeatable {
 public:
  static constexpr const char* name = activations[I].name;
  using OperationOf<Activation<I>, NoOptions>::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    if (activations[I].function == gelu && f.pass.fuse && is_fast_gelu(f.inputs[0])) return {fast_gelu(f.inputs[0])};
    return {activations[I].function(f.inputs[0])};
  }
  Operation::Fused forward_chain(const Forward& f, const std::vector<Operation::Link>& chain) const override {
    const auto* other = I == 0 ? dynamic_cast<const WithRelu*>(chain[0].node.op.get()) : nullptr;
    return {other ? other->forward_with_relu(f.inputs[0]) : at::Tensor(), 1};
  }
  bool computes_like(const Operation& other) const override {
    return dynamic_cast<const Activation*>(&other) != nullptr;
  }
  bool preserves_zero() const override { return activations[I].preserves_zero; }
  PythonForm python(const Graph&, const Node&) const override {
    return {.expression = activations[I].python, .module = activations[I].module};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    const std::string x = to.input(0);
    const std::string type = activations[I].onnx;
    if (type == "Clip") return {to.add(type, {x, constant(to, 0), constant(to, 6)})};
    if (type == "Swish") return {to.add("Mul", {x, to.add("Sigmoid", {x})})};  // only in a later opset
    if (type == "Gelu" && to.opset() < 20) {                                   // x (1 + erf(x / sqrt(2))) / 2
      const std::string erf = to.add("Erf", {to.add("Mul", {x, constant(to, std::numbers::sqrt2 / 2)})});
      return {to.add("Mul", {to.add("Mul", {x, constant(to, 0.5)}), to.add("Add", {erf, constant(to, 1)})})};
    }
    return {to.add(type, {x})};
  }
};

}  // namespace

std::vector<Component> activation_operations() {
  return {component<Activation<0>>("relu", "max(x, 0)"),
          component<Activation<1>>("gelu", "x times the normal distribution function"),
          component<Activation<2>>("sigmoid", "1 / (1 + exp(-x))"),
          component<Activation<3>>("tanh", "hyperbolic tangent"),
          component<Activation<4>>("relu6", "min(max(x, 0), 6)"),
          component<Activation<5>>("silu", "x times sigmoid")};
}

}  // namespace espalier
