#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>

#include "builtin.h"
#include "espalier/onnx.h"
#include "fast_layer_norm.h"
#include "onnx_forms.h"

namespace espalier {
namespace {

// [..., C], normalised over C (Ba et al. 2016).
class LayerNorm final : public OperationOf<LayerNorm, LayerNormOptions> {
 public:
  static constexpr const char* name = "layer_norm";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.empty() || !x.back().has_axis()) n.refuse("layer norm needs an input with the channels last");
    if (o_.affine) {
      n.parameter("weight", "norm_weight", {NodeBuilder::makes(x.back())}, {Initializer::Kind::constant, 1});
      n.parameter("bias", "norm_bias", {NodeBuilder::makes(x.back())}, {Initializer::Kind::constant, 0});
    }
    n.output(x);
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    const at::Tensor weight = o_.affine ? f.parameter(0) : at::Tensor(), bias = o_.affine ? f.parameter(1) : weight;
    if (f.pass.fuse && is_fast_layer_norm(x, weight)) return {fast_layer_norm(x, weight, bias, o_.eps)};
    return {at::layer_norm(x, {x.size(-1)}, weight, bias, o_.eps)};
  }
  Scaling scaling() const override { return o_.affine ? Scaling::absorbs : Scaling::none; }
  // With no scale and no shift, as removal leaves them.
  bool preserves_zero() const override { return true; }
  bool reduces_over_width() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    const std::string size = std::to_string(channels(g, node));
    return {.expression = "torch.layer_norm({0}, [" + size + "], " + (o_.affine ? "{p0}, {p1}, " : "None, None, ") +
                          to_json(o_.eps) + ")",
            .module = "nn.LayerNorm(" + size + ", eps=" + to_json(o_.eps) +
                      (o_.affine ? ")" : ", elementwise_affine=False)")};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    if (to.opset() < 17) {
      const auto last = static_cast<int64_t>(g[node.inputs[0]].shape.size());
      const std::string y = onnx_normalized(to, to.input(0), {last}, o_.eps);
      if (!o_.affine) return {y};
      return {to.add("Add", {to.add("Mul", {y, to.parameter(0)}), to.parameter(1)})};
    }
    std::vector<std::string> inputs{to.input(0)};
    if (o_.affine) {
      inputs.insert(inputs.end(), {to.parameter(0), to.parameter(1)});
    } else {
      inputs.push_back(to.constant(at::ones({channels(g, node)})));
    }
    return {to.add("LayerNormalization", inputs, {{"axis", int64_t{-1}}, {"epsilon", o_.eps}})};
  }

 private:
  static int64_t channels(const Graph& g, const Node& node) { return g.size(g[node.inputs[0]].shape.back()); }
};

}  // namespace

Component layer_norm_operation() {
  return component<LayerNorm>(LayerNorm::name, "layer normalisation, over the last dimension");
}

}  // namespace espalier
