#include <ATen/ops/add.h>
#include <ATen/ops/mul.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

// Sum or product of inputs of one shape, whose axes the builder made one.
template <bool Sum>
class Elementwise final : public OperationOf<Elementwise<Sum>, NoOptions> {
 public:
  static constexpr const char* name = Sum ? "add" : "multiply";
  using OperationOf<Elementwise<Sum>, NoOptions>::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    for (size_t i = 1; i < n.input_count(); ++i) {
      if (n.input_sizes(i) != n.input_sizes(0)) n.refuse("the shapes must be equal");
      if (n.input(i) != x)
        n.refuse("the widths are equal but made up differently (groups, parts of a concat), so they cannot be one");
    }
    n.output(x);
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    at::Tensor y = f.inputs[0];
    for (size_t i = 1; i < f.inputs.size(); ++i) y = Sum ? at::add(y, f.inputs[i]) : at::mul(y, f.inputs[i]);
    return {y};
  }
  std::shared_ptr<const Operation> without_input(const Node&, size_t) const override {
    return Sum ? std::make_shared<Elementwise>() : nullptr;
  }
  bool preserves_zero() const override { return true; }
  bool multiplies_inputs() const override { return !Sum; }
  PythonForm python(const Graph&, const Node& node) const override {
    std::string text = "{0}";
    for (size_t i = 1; i < node.inputs.size(); ++i) text += (Sum ? " + {" : " * {") + std::to_string(i) + "}";
    return {"(" + text + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node& node) const override {
    std::string y = to.input(0);
    for (size_t i = 1; i < node.inputs.size(); ++i) y = to.add(Sum ? "Add" : "Mul", {y, to.input(i)});
    return {y};
  }
};

}  // namespace

std::vector<Component> elementwise_operations() {
  return {component<Elementwise<true>>("add", "sum of tensors of one shape"),
          component<Elementwise<false>>("multiply", "product of tensors of one shape, element by element")};
}

}  // namespace espalier
