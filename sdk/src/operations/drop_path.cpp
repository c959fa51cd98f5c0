#include <ATen/ops/empty.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "espalier/random_fill.h"

namespace espalier {
namespace {

// Zeroes a sample whole with probability p and scales the others by 1 / (1 - p), in training only: before a residual
// sum it drops the branch (Larsson et al. 2017, Huang et al. 2016).
class DropPath final : public OperationOf<DropPath, DropPathOptions> {
 public:
  static constexpr const char* name = "drop_path";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    const double p = o_.rises ? o_.p * f.pass.progress : o_.p;
    if (!f.pass.training || p == 0) return {x};
    at::Tensor mask = at::empty({x.size(0)}, x.options());
    fill_dropout_mask(mask, p, f.pass.key.with("drop_path").with(f.node.name), f.pass.part.first_element(mask));
    std::vector<int64_t> each(static_cast<size_t>(x.dim()), 1);
    each[0] = -1;
    return {x.mul(mask.view(each))};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"drop_path({0}, " + to_json(o_.p) + ", {training})",
            R"py(def drop_path(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    if not training or p == 0.0:
        return x
    kept = torch.rand([x.size(0)] + [1] * (x.dim() - 1), dtype=x.dtype, device=x.device) >= p
    return x * kept.to(x.dtype) / (1.0 - p)
)py"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Identity", {to.input(0)})};
  }
};

}  // namespace

Component drop_path_operation() {
  return component<DropPath>(DropPath::name, "zeroes whole samples at random while training");
}

}  // namespace espalier
