#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/flatten.h>

#include "builtin.h"

namespace espalier {
namespace {

// Inputs: logits [classes] and target [] (the class's number), or [nodes, classes] and [nodes]; the target -100 does
// not count. Output: the mean over the batch and the nodes.
class CrossEntropy final : public OperationOf<CrossEntropy, CrossEntropyOptions> {
 public:
  static constexpr const char* name = "cross_entropy";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape each = n.input(0);
    if (each.empty()) n.refuse("cross-entropy needs logits of [classes]");
    each.pop_back();
    if (n.input(1) != each) n.refuse("cross-entropy needs one class number for each row of logits as its target");
    n.output({});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const double smoothing = f.pass.training ? o_.label_smoothing : 0;
    const bool several = f.inputs[0].dim() > 2;
    return {at::cross_entropy_loss(several ? f.inputs[0].flatten(0, -2) : f.inputs[0],
                                   several ? f.inputs[1].flatten() : f.inputs[1], {}, /*mean*/ 1, -100, smoothing)};
  }
  bool preserves_zero() const override { return false; }
  bool reduces_over_width() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"F.nll_loss(torch.log_softmax({0}.flatten(0, -2), -1), {1}.flatten())"};
  }
};

}  // namespace

Component cross_entropy_operation() {
  return component<CrossEntropy>(CrossEntropy::name, "cross-entropy of logits and class numbers");
}

}  // namespace espalier
