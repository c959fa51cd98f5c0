#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/scalar_tensor.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

enum class Kind { sum, product, mean };

// Sum, product or mean of inputs of one shape, whose axes the builder made one.
template <Kind kind_of>
class Elementwise final : public OperationOf<Elementwise<kind_of>, NoOptions> {
 public:
  static constexpr const char* name = kind_of == Kind::sum ? "add" : kind_of == Kind::product ? "multiply" : "average";
  static constexpr bool product = kind_of == Kind::product, mean = kind_of == Kind::mean;
  using OperationOf<Elementwise<kind_of>, NoOptions>::OperationOf;

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
    for (size_t i = 1; i < f.inputs.size(); ++i) y = product ? at::mul(y, f.inputs[i]) : at::add(y, f.inputs[i]);
    return {mean ? y * share(f.inputs.size()) : y};
  }
  std::shared_ptr<const Operation> without_input(const Node&, size_t) const override {
    return kind_of == Kind::sum ? std::make_shared<Elementwise>() : nullptr;
  }
  bool preserves_zero() const override { return true; }
  bool multiplies_inputs() const override { return product; }
  PythonForm python(const Graph&, const Node& node) const override {
    std::string text = "{0}";
    for (size_t i = 1; i < node.inputs.size(); ++i) text += (product ? " * {" : " + {") + std::to_string(i) + "}";
    return {mean ? "((" + text + ") / " + std::to_string(node.inputs.size()) + ")" : "(" + text + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node& node) const override {
    std::string y = to.input(0);
    for (size_t i = 1; i < node.inputs.size(); ++i) y = to.add(product ? "Mul" : "Add", {y, to.input(i)});
    return {mean ? to.add("Mul", {y, to.constant(at::scalar_tensor(share(node.inputs.size()), at::kFloat))}) : y};
  }

 private:
  static double share(size_t inputs) { return 1 / static_cast<double>(inputs); }
};

}  // namespace

std::vector<Component> elementwise_operations() {
  return {component<Elementwise<Kind::sum>>("add", "sum of tensors of one shape"),
          component<Elementwise<Kind::product>>("multiply", "product of tensors of one shape, element by element"),
          component<Elementwise<Kind::mean>>("average", "mean of tensors of one shape, element by element")};
}

}  // namespace espalier
