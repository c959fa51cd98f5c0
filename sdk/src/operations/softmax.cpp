#include <ATen/ops/softmax.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

class Softmax final : public OperationOf<Softmax, NoOptions> {
 public:
  static constexpr const char* name = "softmax";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {at::softmax(f.inputs[0], -1)}; }
  bool preserves_zero() const override { return false; }
  bool reduces_over_width() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {.expression = "torch.softmax({0}, -1)", .module = "nn.Softmax(-1)"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Softmax", {to.input(0)}, {{"axis", int64_t{-1}}})};
  }
};

}  // namespace

Component softmax_operation() {
  return component<Softmax>(Softmax::name, "softmax over the last dimension");
}

}  // namespace espalier
