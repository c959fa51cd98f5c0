#include <ATen/ops/cross_entropy_loss.h>

#include "builtin.h"

namespace espalier {
namespace {

// Inputs: logits [classes] and target [] (the class's number). Output: the mean over the batch.
class CrossEntropy final : public OperationOf<CrossEntropy, CrossEntropyOptions> {
 public:
  static constexpr const char* name = "cross_entropy";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input(0).size() != 1) n.refuse("cross-entropy needs logits of [classes]");
    if (!n.input(1).empty()) n.refuse("cross-entropy needs one class number a sample as its target");
    n.output({});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const double smoothing = f.pass.training ? o_.label_smoothing : 0;
    return {at::cross_entropy_loss(f.inputs[0], f.inputs[1], {}, /*mean*/ 1, -100, smoothing)};
  }
  bool preserves_zero() const override { return false; }
  bool reduces_over_width() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"F.cross_entropy({0}, {1})"}; }
};

}  // namespace

Component cross_entropy_operation() {
  return component<CrossEntropy>(CrossEntropy::name, "cross-entropy of logits and class numbers");
}

}  // namespace espalier
