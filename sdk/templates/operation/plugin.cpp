#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sigmoid.h>
#include <espalier/backbone.h>
#include <espalier/onnx.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>

namespace espalier {

struct @CLASS@Options {
  double beta = 1;

  static void declare(Declare<@CLASS@Options>& p) {
    p("beta", &@CLASS@Options::beta, above(0), "steepness of the sigmoid");
  }
};

// x * sigmoid(beta * x), element by element.
class @CLASS@ final : public OperationOf<@CLASS@, @CLASS@Options> {
 public:
  static constexpr const char* name = "@NAME@";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    return {x.mul(at::sigmoid(x.mul(o_.beta)))};
  }
  // So that removing a channel that is zero stays exact.
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"{0} * torch.sigmoid(" + to_json(o_.beta) + " * {0})"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    const std::string beta = to.constant(at::scalar_tensor(o_.beta));
    return {to.add("Mul", {to.input(0), to.add("Sigmoid", {to.add("Mul", {to.input(0), beta})})})};
  }
};

// A small network that uses it, by name.
Graph network(const NoOptions&, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Edge x = g.node("@NAME@", "act", {g.conv("conv", g.input(), {.filters = 16, .kernel = 3})});
  return g.output(g.linear("fc", g.flatten(g.max_pool(x, 2)), {.features = target.outputs}));
}

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "x * sigmoid(beta * x)"),
                backbone<NoOptions>("@NAME@_network", "a small network with @NAME@", network));

}  // namespace espalier
