#include <ATen/ops/empty_like.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/random_fill.h"

namespace espalier {
namespace {

// Zeroes each value with probability p and scales the rest by 1 / (1 - p), in training only (Srivastava et al. 2014).
class Dropout final : public OperationOf<Dropout, DropoutOptions> {
 public:
  static constexpr const char* name = "dropout";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    if (!f.pass.training || o_.p == 0) return {f.inputs[0]};
    at::Tensor mask = at::empty_like(f.inputs[0]);
    fill_dropout_mask(mask, o_.p, f.pass.key.with("dropout").with(f.node.name), f.pass.part.first_element(f.inputs[0]));
    return {f.inputs[0].mul(mask)};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {.expression = "torch.dropout({0}, " + to_json(o_.p) + ", {training})",
            .module = "nn.Dropout(" + to_json(o_.p) + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override { return {to.input(0)}; }
};

}  // namespace

Component dropout_operation() {
  return component<Dropout>(Dropout::name, "random zeros while training");
}

}  // namespace espalier
