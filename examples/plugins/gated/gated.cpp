#include <ATen/TensorOperators.h>
#include <ATen/ops/sigmoid.h>

#include <espalier/backbone.h>
#include <espalier/onnx.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>

namespace espalier {

// A gated linear unit (Dauphin, Fan, Auli and Grangier, ICML 2017): a * sigmoid(b), element by element. Its inputs are
// two nodes instead of the halves of one, so that a filter of `a` goes together with its gate in `b`.
class Gated final : public OperationOf<Gated, NoOptions> {
 public:
  static constexpr const char* name = "gated";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 2) n.refuse("it needs two inputs: the values and their gates");
    if (n.input(0) != n.input(1)) n.refuse("values and gates must have the same axes: call GraphBuilder::unify before");
    n.output(Shape(n.input(0)));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0] * at::sigmoid(f.inputs[1])}; }
  // A channel of the values that is zero stays zero, whatever its gate is.
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"({0} * torch.sigmoid({1}))"}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Mul", {to.input(0), to.add("Sigmoid", {to.input(1)})})};
  }
};

struct NetworkOptions {
  int64_t width = 16;

  static void declare(Declare<NetworkOptions>& p) {
    p("width", &NetworkOptions::width, at_least(1), "Filters of the first convolution; the second has twice as many.");
  }
};

Graph network(const NetworkOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const auto unit = [&](const std::string& name, Edge x, int64_t filters) {
    const auto scope = g.scope(name);
    const Edge value = g.conv("value", x, {.filters = filters, .kernel = 3, .padding = 1});
    const Edge gate = g.conv("gate", x, {.filters = filters, .kernel = 3, .padding = 1});
    g.unify({value, gate});
    return g.node("gated", "unit", {value, gate});
  };
  Edge x = g.max_pool(unit("first", g.input(), o.width), 2);
  x = g.global_avg_pool(unit("second", x, 2 * o.width));
  return g.output(g.linear("fc", x, {.features = target.outputs}));
}

ESPALIER_PLUGIN("gated", "0.1.0", component<Gated>("gated", "values times the sigmoid of their gates"),
                backbone<NetworkOptions>("gated_network", "two gated convolutions and a linear layer", network));

}  // namespace espalier
