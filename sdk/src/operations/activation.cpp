#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/tanh.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

using Function = at::Tensor (*)(const at::Tensor&);

at::Tensor gelu(const at::Tensor& x) {
  return at::gelu(x);
}

struct Activated {
  const char* name;
  Function function;
  bool preserves_zero;
  const char* python;
  const char* onnx;
};

constexpr Activated activations[] = {{"relu", at::relu, true, "torch.relu({0})", "Relu"},
                                     {"gelu", gelu, true, "F.gelu({0})", "Gelu"},
                                     {"sigmoid", at::sigmoid, false, "torch.sigmoid({0})", "Sigmoid"},
                                     {"tanh", at::tanh, true, "torch.tanh({0})", "Tanh"}};

// An element-wise function; the shape stays.
template <int I>
class Activation final : public OperationOf<Activation<I>, NoOptions> {
 public:
  static constexpr const char* name = activations[I].name;
  using OperationOf<Activation<I>, NoOptions>::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {activations[I].function(f.inputs[0])}; }
  at::Tensor forward_with(const Forward& f, const Node& next) const override {
    const auto* other = I == 0 ? dynamic_cast<const WithRelu*>(next.op.get()) : nullptr;
    return other ? other->forward_with_relu(f.inputs[0]) : at::Tensor();
  }
  bool preserves_zero() const override { return activations[I].preserves_zero; }
  PythonForm python(const Graph&, const Node&) const override { return {activations[I].python}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add(activations[I].onnx, {to.input(0)})};
  }
};

}  // namespace

std::vector<Component> activation_operations() {
  return {component<Activation<0>>("relu", "max(x, 0)"),
          component<Activation<1>>("gelu", "x times the normal distribution function"),
          component<Activation<2>>("sigmoid", "1 / (1 + exp(-x))"),
          component<Activation<3>>("tanh", "hyperbolic tangent")};
}

}  // namespace espalier
