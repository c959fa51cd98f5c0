// Operations on feature maps that the rest of the program does not need.
#include <cmath>

#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <espalier/operation.h>

#include "detector_operations.h"

namespace espalier {
namespace {

struct UpsampleOptions {
  int64_t factor = 2;

  static void declare(Declare<UpsampleOptions>& p) {
    p("factor", &UpsampleOptions::factor, at_least(1), "Rows and columns in place of each one.");
  }
};

// [C, H, W] -> [C, factor H, factor W]: each pixel becomes a square.
class Upsample final : public OperationOf<Upsample, UpsampleOptions> {
 public:
  static constexpr const char* name = "upsample";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("an input of [channels, height, width] is needed");
    for (size_t d = 1; d < 3; ++d) x[d] = Dim::of(n.input_sizes(0)[d] * o_.factor);
    n.output(std::move(x));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    return {at::upsample_nearest2d(x, at::IntArrayRef{x.size(2) * o_.factor, x.size(3) * o_.factor})};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    const std::string n = std::to_string(o_.factor);
    return {"{0}.repeat_interleave(" + n + ", 2).repeat_interleave(" + n + ", 3)"};
  }
  std::vector<std::string> onnx(OnnxNodes&, const Graph&, const Node& node) const override { refuse_form(node); }
};

// [H, W, C] -> [C, H, W].
class ToImage final : public OperationOf<ToImage, NoOptions> {
 public:
  static constexpr const char* name = "to_image";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 2) n.refuse("an image is made from [height, width, channels]");
    n.output({x[2], x[0], x[1]});
  }
  // Tokens in their order are an image in channels_last memory format.
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0].permute({0, 3, 1, 2})}; }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"{0}.permute(0, 3, 1, 2)"}; }
  std::vector<std::string> onnx(OnnxNodes&, const Graph&, const Node& node) const override { refuse_form(node); }
};

// [H, W, C] and [h, w, ...] -> [h, w, C]: the first rows and columns, as many as the other input has.
class TrimTokens final : public OperationOf<TrimTokens, NoOptions> {
 public:
  static constexpr const char* name = "trim_tokens";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0), like = n.input(1);
    if (x.size() != 3 || channel_dim(x) != 2 || like.size() != 3 || channel_dim(like) != 2)
      n.refuse("two inputs of [height, width, channels] are needed");
    for (size_t d = 0; d < 2; ++d) {
      if (n.input_sizes(0)[d] < n.input_sizes(1)[d]) n.refuse("the second input must not be larger than the first");
    }
    n.output({like[0], like[1], x[2]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {f.inputs[0].slice(1, 0, f.inputs[1].size(1)).slice(2, 0, f.inputs[1].size(2)).contiguous()};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"{0}[:, :{1}.size(1), :{1}.size(2)]"}; }
  std::vector<std::string> onnx(OnnxNodes&, const Graph&, const Node& node) const override { refuse_form(node); }
};

// [C, H, W] -> [filters, 2 H, 2 W]: the transpose of a convolution with kernels of 2 x 2 and a stride of 2.
class ConvTranspose final : public OperationOf<ConvTranspose, NoOptions> {
 public:
  static constexpr const char* name = "conv_transpose";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("an input of [channels, height, width] is needed");
    const Dim filters = Dim::of(n.axis(0));
    n.parameter("weight", "weight",
                {NodeBuilder::reads(x[0]), NodeBuilder::makes(filters), NodeBuilder::makes(Dim::of(2)),
                 NodeBuilder::makes(Dim::of(2))},
                {Initializer::Kind::kaiming_normal_in, 0});
    n.parameter("bias", "bias", {NodeBuilder::makes(filters)}, {Initializer::Kind::constant, 0});
    n.output({filters, Dim::of(2 * n.input_sizes(0)[1]), Dim::of(2 * n.input_sizes(0)[2])});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {at::conv_transpose2d(f.inputs[0], f.parameter(0), f.parameter(1), at::IntArrayRef{2, 2})};
  }
  int64_t macs(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> x = g.sizes(g[node.inputs[0]].shape);
    return g.numel(g[node.parameters[0]].shape) * x[1] * x[2];
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"torch.conv_transpose2d({0}, {p0}, {p1}, [2, 2])"};
  }
};

}  // namespace

std::vector<Component> map_operations() {
  return {component<Upsample>(Upsample::name, "each pixel of an image becomes a square"),
          component<ToImage>(ToImage::name, "tokens as an image with the channels first"),
          component<TrimTokens>(TrimTokens::name, "a grid of tokens cut to the rows and columns of another"),
          component<ConvTranspose>(ConvTranspose::name, "transposed convolution that doubles height and width")};
}

}  // namespace espalier
