#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/zeros_like.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/onnx.h"
#include "fast_mixture.h"

namespace espalier {
namespace {

struct CropOptions {
  int64_t offset = 1;

  static void declare(Declare<CropOptions>& p) {
    p("offset", &CropOptions::offset, at_least(1), unit("pixels"), "Number of rows and columns that are left out.");
  }
};

// [C, H, W] without the first rows and columns.
class Crop final : public OperationOf<Crop, CropOptions> {
 public:
  static constexpr const char* name = "crop";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("a crop needs an input of [channels, height, width]");
    for (size_t d = 1; d < 3; ++d) {
      const int64_t left = n.input_sizes(0)[d] - o_.offset;
      if (left < 1) n.refuse("nothing would be left");
      x[d] = Dim::of(left);
    }
    n.output(std::move(x));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {f.inputs[0].slice(2, o_.offset).slice(3, o_.offset)};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    const std::string from = std::to_string(o_.offset) + ":";
    return {"{0}[:, :, " + from + ", " + from + "]"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    return {to.add("Slice", {to.input(0), integers(to, {o_.offset, o_.offset}), integers(to, {sizes[1], sizes[2]}),
                             integers(to, {2, 3})})};
  }
};

struct ZeroPadOptions {
  int64_t before = 0;
  int64_t after = 1;

  static void declare(Declare<ZeroPadOptions>& p) {
    p("before", &ZeroPadOptions::before, at_least(0), unit("pixels"),
      "Rows of zeros above, and columns of zeros on the left.");
    p("after", &ZeroPadOptions::after, at_least(0), unit("pixels"),
      "Rows of zeros below, and columns of zeros on the right.");
  }
};

// [C, H, W] with zeros around it, for convolutions whose padding is not the same on all sides.
class ZeroPad final : public OperationOf<ZeroPad, ZeroPadOptions> {
 public:
  static constexpr const char* name = "zero_pad";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("zeros around an image need [channels, height, width]");
    for (size_t d = 1; d < 3; ++d) x[d] = Dim::of(n.input_sizes(0)[d] + o_.before + o_.after);
    n.output(std::move(x));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {at::constant_pad_nd(f.inputs[0], {o_.before, o_.after, o_.before, o_.after})};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    const std::string both = std::to_string(o_.before) + ", " + std::to_string(o_.after);
    return {"torch.constant_pad_nd({0}, [" + both + ", " + both + "])"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Pad", {to.input(0), integers(to, {0, 0, o_.before, o_.before, 0, 0, o_.after, o_.after})})};
  }
};

class Zeros final : public OperationOf<Zeros, NoOptions>, public AsTerm {
 public:
  static constexpr const char* name = "zeros";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {at::zeros_like(f.inputs[0])}; }
  std::optional<MixedTerm> as_term(const Forward&) const override { return MixedTerm{MixedTerm::Kind::zero}; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"torch.zeros_like({0})"}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("ConstantOfShape", {to.add("Shape", {to.input(0)})})};
  }
};

}  // namespace

std::vector<Component> image_operations() {
  return {component<Crop>(Crop::name, "an image without its first rows and columns"),
          component<ZeroPad>(ZeroPad::name, "an image with rows and columns of zeros around it"),
          component<Zeros>(Zeros::name, "zeros of the input's shape")};
}

}  // namespace espalier
