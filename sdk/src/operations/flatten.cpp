#include <ATen/ops/flatten.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

// [C, H, W] -> [C * H * W], channel by channel.
class Flatten final : public OperationOf<Flatten, NoOptions> {
 public:
  static constexpr const char* name = "flatten";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.empty()) n.refuse("nothing to flatten");
    Dim flat = x[0];
    int64_t inner = 1;
    for (size_t d = 1; d < x.size(); ++d) inner *= n.input_sizes(0)[d];
    if (inner != 1) {
      for (Segment& s : flat.segments) s.factors.push_back({Axis{}, inner});
    }
    n.output({std::move(flat)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0].flatten(1)}; }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {.expression = "{0}.flatten(1)", .module = "nn.Flatten()"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Flatten", {to.input(0)}, {{"axis", int64_t{1}}})};
  }
};

}  // namespace

Component flatten_operation() {
  return component<Flatten>(Flatten::name, "an image as a vector, channel by channel");
}

}  // namespace espalier
