#include "attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/onnx.h"
#include "fast_bfloat16.h"

namespace espalier {

HeadSizes head_sizes(const Graph& g, const Node& node) {
  const auto factor = [&](size_t input, size_t f) {
    return g.size(Segment{{g[node.inputs[input]].shape.back().segments[0].factors[f]}});
  };
  return {factor(0, 0), factor(0, 1), factor(2, 1)};
}

void require_heads(NodeBuilder& n) {
  if (n.input_count() != 3) n.refuse("attention takes queries, keys and values");
  for (size_t i = 0; i < 3; ++i) {
    const Dim& d = n.input(i).back();
    if (d.segments.size() != 1 || d.segments[0].factors.size() != 2)
      n.refuse("queries, keys and values are heads x head dimension, an axis each");
  }
  Shape v = n.input(2);
  const Shape& q = n.input(0);
  if (n.input(1) != q) n.refuse("queries and keys must share their axes");
  if (v.back().segments[0].factors[0] != q.back().segments[0].factors[0])
    n.refuse("queries and values must share the heads");
  v.back() = q.back();
  if (v != q) n.refuse("there must be as many values as queries");
}

namespace {

// softmax(q k^T scale) v in each head (Vaswani et al. 2017), of [tokens, heads x head dimension].
class Attention final : public OperationOf<Attention, AttentionOptions> {
 public:
  static constexpr const char* name = "attention";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    require_heads(n);
    if (n.input(0).size() != 2) n.refuse("attention needs inputs of [tokens, heads x head dimension]");
    n.output(Shape(n.input(2)));
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    const int64_t heads = head_sizes(f.graph, f.node).heads;
    const auto split = [&](size_t i) {
      const at::Tensor& x = f.inputs[i];
      return x.reshape({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
    };
    const at::Tensor q = split(0), k = split(1), v = split(2);
    if (f.pass.fuse && is_bfloat16_on_cpu(q) && is_bfloat16_slow()) {
      const WithoutAutocast off;
      const auto number = [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };
      const at::Tensor y = at::scaled_dot_product_attention(number(q), number(k), number(v), {}, /*dropout_p=*/0,
                                                            /*is_causal=*/false, o_.scale);
      return {y.transpose(1, 2).flatten(2).to(at::kBFloat16)};
    }
    // LibTorch's fused forms have no second derivative.
    const at::Tensor y =
        f.pass.fuse ? at::scaled_dot_product_attention(q, k, v, {}, /*dropout_p=*/0, /*is_causal=*/false, o_.scale)
                    : at::matmul(at::softmax(at::matmul(q * o_.scale, k.transpose(-2, -1)), -1), v);
    return {y.transpose(1, 2).flatten(2)};
  }

  int64_t macs(const Graph& g, const Node& node) const override {
    const HeadSizes s = head_sizes(g, node);
    const int64_t tokens = g.size(g[node.inputs[0]].shape[0]);
    return tokens * tokens * s.heads * (s.query + s.value);
  }

  // A channel of zeros adds nothing to the products, and gives zeros where it is the values'; the scale stays.
  bool preserves_zero() const override { return true; }
  bool contracts(const Graph& graph, const Node& node, Axis axis) const override {
    return graph[node.inputs[0]].shape.back().segments[0].factors.back().axis == axis;
  }

  PythonForm python(const Graph& g, const Node& node) const override {
    return {
        "attention({0}, {1}, {2}, " + std::to_string(head_sizes(g, node).heads) + ", " + to_json(o_.scale) + ")",
        R"py(def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
    q = q.unflatten(2, [heads, -1]).transpose(1, 2)
    k = k.unflatten(2, [heads, -1]).transpose(1, 2)
    v = v.unflatten(2, [heads, -1]).transpose(1, 2)
    weights = torch.softmax(torch.matmul(q * scale, k.transpose(-2, -1)), -1)
    return torch.matmul(weights, v).transpose(1, 2).flatten(2)
)py"};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const HeadSizes s = head_sizes(g, node);
    const int64_t tokens = g.size(g[node.inputs[0]].shape[0]);
    const auto split = [&](size_t i, int64_t dim, std::vector<int64_t> order) {
      const std::string x = to.add("Reshape", {to.input(i), integers(to, {-1, tokens, s.heads, dim})});
      return to.add("Transpose", {x}, {{"perm", std::move(order)}});
    };
    const std::string scale = to.constant(at::scalar_tensor(o_.scale, at::kFloat));
    const std::string q = to.add("Mul", {split(0, s.query, {0, 2, 1, 3}), scale});
    const std::string logits = to.add("MatMul", {q, split(1, s.query, {0, 2, 3, 1})});
    const std::string weights = to.add("Softmax", {logits}, {{"axis", int64_t{-1}}});
    const std::string y = to.add("MatMul", {weights, split(2, s.value, {0, 2, 1, 3})});
    const std::string rows = to.add("Transpose", {y}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    return {to.add("Reshape", {rows, integers(to, {-1, tokens, s.heads * s.value})})};
  }
};

}  // namespace

Component attention_operation() {
  return component<Attention>(Attention::name, "multi-head attention of queries, keys and values");
}

}  // namespace espalier
