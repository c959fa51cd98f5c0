#include <ATen/ops/cat.h>

#include "builtin.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

// The channels of the inputs one after the other; each segment keeps its axes.
class Concat final : public OperationOf<Concat, NoOptions> {
 public:
  static constexpr const char* name = "concat";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape y = n.input(0);
    const size_t d = channel_dim(y);
    for (size_t i = 1; i < n.input_count(); ++i) {
      Shape x = n.input(i);
      if (x.size() != y.size() || channel_dim(x) != d) n.refuse("the inputs must be of one kind");
      y[d].segments.insert(y[d].segments.end(), x[d].segments.begin(), x[d].segments.end());
      x[d] = y[d];
      if (x != y) n.refuse("the inputs may differ in their channels only");
    }
    n.output(std::move(y));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {at::cat(f.inputs, dim(f.graph, f.node))}; }
  bool joins_inputs() const override { return true; }
  std::shared_ptr<const Operation> without_input(const Node&, size_t) const override {
    return std::make_shared<Concat>();
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    std::string all;
    for (size_t i = 0; i < node.inputs.size(); ++i) all += (i ? ", {" : "{") + std::to_string(i) + "}";
    return {"torch.cat([" + all + "], " + std::to_string(dim(g, node)) + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    std::vector<std::string> all;
    for (size_t i = 0; i < node.inputs.size(); ++i) all.push_back(to.input(i));
    return {to.add("Concat", all, {{"axis", dim(g, node)}})};
  }

 private:
  static int64_t dim(const Graph& g, const Node& node) {
    return static_cast<int64_t>(channel_dim(g[node.outputs[0]].shape)) + 1;
  }
};

}  // namespace

Component concat_operation() {
  return component<Concat>(Concat::name, "channels one after the other");
}

}  // namespace espalier
