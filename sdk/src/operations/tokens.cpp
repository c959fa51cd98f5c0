#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/onnx.h"
#include "onnx_forms.h"

namespace espalier {
namespace {

// What every operation on a grid of tokens needs.
void require_grid(NodeBuilder& n) {
  if (n.input(0).size() != 3 || channel_dim(n.input(0)) != 2)
    n.refuse("an input of [height, width, channels] is needed");
}

struct ToTokensOptions {
  bool flat = false;

  static void declare(Declare<ToTokensOptions>& p) {
    p("flat", &ToTokensOptions::flat, "Whether the tokens are one dimension, row by row, instead of height and width.");
  }
};

// [C, H, W] -> [H, W, C] or [H * W, C].
class ToTokens final : public OperationOf<ToTokens, ToTokensOptions> {
 public:
  static constexpr const char* name = "to_tokens";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("tokens are made from [channels, height, width]");
    const std::vector<int64_t> sizes = n.input_sizes(0);
    n.output(o_.flat ? Shape{Dim::of(sizes[1] * sizes[2]), x[0]} : Shape{x[1], x[2], x[0]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor y = f.inputs[0].permute({0, 2, 3, 1});
    return {o_.flat ? y.flatten(1, 2) : y};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {std::string("{0}.permute(0, 2, 3, 1)") + (o_.flat ? ".flatten(1, 2)" : "")};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    std::string y = to.add("Transpose", {to.input(0)}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
    if (!o_.flat) return {y};
    const std::vector<int64_t> sizes = g.sizes(g[node.outputs[0]].shape);
    return {to.add("Reshape", {y, integers(to, {-1, sizes[0], sizes[1]})})};
  }
};

// [..., C] -> [C]: the mean over tokens.
class Mean final : public OperationOf<Mean, NoOptions> {
 public:
  static constexpr const char* name = "mean";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() < 2 || channel_dim(x) + 1 != x.size()) n.refuse("the mean over tokens needs the channels last");
    n.output({x.back()});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {f.inputs[0].mean(dims(f.inputs[0].dim()))};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    return {"{0}.mean(" + to_string(dims(rank(g, node))) + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    return {onnx_mean(to, to.input(0), dims(rank(g, node)), /*keep=*/false)};
  }

 private:
  // With the batch.
  static int64_t rank(const Graph& g, const Node& node) {
    return static_cast<int64_t>(g[node.inputs[0]].shape.size()) + 1;
  }
  static std::vector<int64_t> dims(int64_t rank) {
    std::vector<int64_t> all;
    for (int64_t d = 1; d + 1 < rank; ++d) all.push_back(d);
    return all;
  }
};

struct PadTokensOptions {
  int64_t window = 7;

  static void declare(Declare<PadTokensOptions>& p) {
    p("window", &PadTokensOptions::window, at_least(1), unit("tokens"),
      "Number that height and width become multiples of.");
  }
};

// [H, W, C] with rows and columns of zeros behind.
class PadTokens final : public OperationOf<PadTokens, PadTokensOptions> {
 public:
  static constexpr const char* name = "pad_tokens";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    require_grid(n);
    const Shape x = n.input(0);
    const std::vector<int64_t> sizes = n.input_sizes(0);
    n.output({Dim::of(sizes[0] + missing(sizes[0])), Dim::of(sizes[1] + missing(sizes[1])), x[2]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    return {at::constant_pad_nd(x, {0, 0, 0, missing(x.size(2)), 0, missing(x.size(1))})};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    return {"torch.constant_pad_nd({0}, [0, 0, 0, " + std::to_string(missing(sizes[1])) + ", 0, " +
            std::to_string(missing(sizes[0])) + "])"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    return {to.add("Pad", {to.input(0), integers(to, {0, 0, 0, 0, 0, missing(sizes[0]), missing(sizes[1]), 0})},
                   {{"mode", std::string("constant")}})};
  }

 private:
  int64_t missing(int64_t n) const { return (o_.window - n % o_.window) % o_.window; }
};

// [H, W, C] -> [H / 2, W / 2, 4 C]: the four neighbours one after the other, an odd last row or column filled with
// zeros (Liu et al. 2021; the linear layer behind it is a node of its own).
class PatchMerging final : public OperationOf<PatchMerging, NoOptions> {
 public:
  static constexpr const char* name = "patch_merging";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    require_grid(n);
    const Shape x = n.input(0);
    const std::vector<int64_t> sizes = n.input_sizes(0);
    Dim four;
    for (int i = 0; i < 4; ++i) four.segments.insert(four.segments.end(), x[2].segments.begin(), x[2].segments.end());
    n.output({Dim::of((sizes[0] + 1) / 2), Dim::of((sizes[1] + 1) / 2), std::move(four)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    at::Tensor x = f.inputs[0];
    const int64_t h = x.size(1), w = x.size(2);
    if (h % 2 || w % 2) x = at::constant_pad_nd(x, {0, 0, 0, w % 2, 0, h % 2});
    std::vector<at::Tensor> parts;
    for (const auto& [row, column] : offsets)
      parts.push_back(x.slice(1, row, x.size(1), 2).slice(2, column, x.size(2), 2));
    return {at::cat(parts, -1)};
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"patch_merging({0})", R"py(def patch_merging(x: torch.Tensor) -> torch.Tensor:
    x = torch.constant_pad_nd(x, [0, 0, 0, x.size(2) % 2, 0, x.size(1) % 2])
    parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    return torch.cat(parts, -1)
)py"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    const std::string x = to.add("Pad", {to.input(0), integers(to, {0, 0, 0, 0, 0, sizes[0] % 2, sizes[1] % 2, 0})},
                                 {{"mode", std::string("constant")}});
    std::vector<std::string> parts;
    for (const auto& [row, column] : offsets) {
      parts.push_back(to.add("Slice", {x, integers(to, {row, column}), integers(to, {sizes[0] + 1, sizes[1] + 1}),
                                       integers(to, {1, 2}), integers(to, {2, 2})}));
    }
    return {to.add("Concat", parts, {{"axis", int64_t{3}}})};
  }

 private:
  static constexpr std::pair<int64_t, int64_t> offsets[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}};
};

// [T, C]: adds a trainable vector to each token, and puts one or two trainable ones before them where asked for.
class PositionEmbedding final : public OperationOf<PositionEmbedding, PositionOptions> {
 public:
  static constexpr const char* name = "position_embedding";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 2 || channel_dim(x) != 1) n.refuse("positions need an input of [tokens, channels]");
    if (o_.distillation_token && !o_.class_token) n.refuse("a distillation token needs a class token before it");
    const Dim tokens = Dim::of(n.input_sizes(0)[0] + trainable());
    const Initializer init{Initializer::Kind::normal, o_.init_std};
    n.parameter("position", "embedding", {NodeBuilder::makes(tokens), NodeBuilder::makes(x[1])}, init);
    if (o_.class_token) n.parameter("class_token", "embedding", {NodeBuilder::makes(x[1])}, init);
    if (o_.distillation_token) n.parameter("distillation_token", "embedding", {NodeBuilder::makes(x[1])}, init);
    n.output({tokens, x[1]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    std::vector<at::Tensor> all;
    for (size_t i = 1; i <= static_cast<size_t>(trainable()); ++i)
      all.push_back(f.parameter(i).to(x.scalar_type()).expand({x.size(0), 1, x.size(2)}));
    all.push_back(x);
    return {(all.size() > 1 ? at::cat(all, 1) : x) + f.parameter(0)};
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    if (!o_.class_token) return {"({0} + {p0})"};
    std::string tokens;
    for (int64_t i = 1; i <= trainable(); ++i)
      tokens += "{p" + std::to_string(i) + "}.expand({0}.size(0), 1, {0}.size(2)), ";
    return {"(torch.cat([" + tokens + "{0}], 1) + {p0})"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    std::string x = to.input(0);
    if (o_.class_token) {
      // One token for each sample: the input's batch, and the sizes of one token.
      const int64_t channels = g.size(g[node.inputs[0]].shape[1]);
      const std::string batch = to.add("Slice", {to.add("Shape", {x}), integers(to, {0}), integers(to, {1})});
      const std::string shape = to.add("Concat", {batch, integers(to, {1, channels})}, {{"axis", int64_t{0}}});
      std::vector<std::string> all;
      for (size_t i = 1; i <= static_cast<size_t>(trainable()); ++i)
        all.push_back(to.add("Expand", {to.parameter(i), shape}));
      all.push_back(x);
      x = to.add("Concat", all, {{"axis", int64_t{1}}});
    }
    return {to.add("Add", {x, to.parameter(0)})};
  }

 private:
  int64_t trainable() const { return (o_.class_token ? 1 : 0) + (o_.distillation_token ? 1 : 0); }
};

struct TokenOptions {
  int64_t index = 0;

  static void declare(Declare<TokenOptions>& p) {
    p("index", &TokenOptions::index, at_least(0), "Token that is taken, from 0.");
  }
};

// [T, C] -> [C].
class Token final : public OperationOf<Token, TokenOptions> {
 public:
  static constexpr const char* name = "token";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 2 || channel_dim(x) != 1) n.refuse("an input of [tokens, channels] is needed");
    if (o_.index >= n.input_sizes(0)[0]) n.refuse("there is no token " + std::to_string(o_.index));
    n.output({x[1]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0].select(1, o_.index)}; }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"{0}.select(1, " + std::to_string(o_.index) + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Squeeze", {to.add("Gather", {to.input(0), integers(to, {o_.index})}, {{"axis", int64_t{1}}}),
                               integers(to, {1})})};
  }
};

}  // namespace

std::vector<Component> token_operations() {
  return {component<ToTokens>(ToTokens::name, "an image as tokens with the channels last"),
          component<Mean>(Mean::name, "mean over tokens"),
          component<PadTokens>(PadTokens::name, "fills a grid of tokens up to multiples of a window"),
          component<PatchMerging>(PatchMerging::name, "the channels of 2 x 2 tokens one after the other"),
          component<PositionEmbedding>(PositionEmbedding::name, "trainable positions, and a class token"),
          component<Token>(Token::name, "one of the tokens")};
}

}  // namespace espalier
