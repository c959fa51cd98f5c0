#include <cstdlib>

#include <ATen/TensorOperators.h>
#include <ATen/ops/index_copy.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/mixture.h"
#include "espalier/onnx.h"

namespace espalier {
namespace {

// A X W^T + b (Kipf & Welling 2017) of features X [nodes, F] and a normalised adjacency A [nodes, nodes]; weight W
// [features, F]. A may be one for the batch.
class GraphConv final : public OperationOf<GraphConv, GraphConvOptions> {
 public:
  static constexpr const char* name = "graph_conv";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 2 || channel_dim(x) != 1) n.refuse("a graph convolution needs features of [nodes, features]");
    const int64_t nodes = n.input_sizes(0)[0];
    if (n.input_sizes(1) != std::vector<int64_t>{nodes, nodes}) n.refuse("it needs an adjacency of [nodes, nodes]");
    const Dim features = Dim::of(n.axis(0));
    n.parameter("weight", "weight", {NodeBuilder::makes(features), NodeBuilder::reads(x[1])},
                {Initializer::Kind::xavier_uniform, 0});
    if (o_.bias) n.parameter("bias", "bias", {NodeBuilder::makes(features)}, {Initializer::Kind::constant, 0});
    n.output({x[0], features});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor y = at::matmul(f.inputs[1], at::linear(f.inputs[0], f.parameter(0)));
    return {o_.bias ? y + f.parameter(1) : y};
  }
  int64_t macs(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> y = g.sizes(g[node.outputs[0]].shape);
    const int32_t maker = g[node.inputs[1]].producer;
    const auto* sparse =
        maker < 0 ? nullptr : dynamic_cast<const SparseMatrix*>(g.nodes()[static_cast<size_t>(maker)].op.get());
    return y[0] * g.numel(g[node.parameters[0]].shape) + (sparse ? sparse->entries() : y[0] * y[0]) * y[1];
  }
  Scaling scaling() const override { return Scaling::absorbs; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {std::string("(torch.matmul({1}, torch.matmul({0}, {p0}.t()))") + (o_.bias ? " + {p1})" : ")")};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    const std::string w = to.add("Transpose", {to.parameter(0)}, {{"perm", std::vector<int64_t>{1, 0}}});
    const std::string y = to.add("MatMul", {to.input(1), to.add("MatMul", {to.input(0), w})});
    return {o_.bias ? to.add("Add", {y, to.parameter(1)}) : y};
  }
};

// [C, H, W] -> [H * W, H * W], one for the batch: each pixel with itself and its four neighbours, D^-1/2 A D^-1/2 with
// the degrees D.
class GridAdjacency final : public OperationOf<GridAdjacency, NoOptions> {
 public:
  static constexpr const char* name = "grid_adjacency";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    if (x.size() != 3 || channel_dim(x) != 0) n.refuse("a grid needs an input of [channels, height, width]");
    const Dim nodes = Dim::of(n.input_sizes(0)[1] * n.input_sizes(0)[2]);
    n.output({nodes, nodes});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& x = f.inputs[0];
    return {constants_.get({x.size(2), x.size(3)}, x.device(), x.scalar_type(),
                           [&] { return values(x.size(2), x.size(3)); })};
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {"grid_adjacency({0})", R"py(def grid_adjacency(x: torch.Tensor) -> torch.Tensor:
    at = torch.arange(x.size(2) * x.size(3), device=x.device)
    row = at // x.size(3)
    column = at % x.size(3)
    distance = (row.unsqueeze(1) - row).abs() + (column.unsqueeze(1) - column).abs()
    a = (distance <= 1).to(x.dtype)
    d = a.sum(1).rsqrt()
    return (d.unsqueeze(1) * a * d).unsqueeze(0)
)py"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    return {to.constant(values(sizes[1], sizes[2]).to(at::kFloat))};
  }

 private:
  static at::Tensor values(int64_t height, int64_t width) {
    const auto degree = [&](int64_t i) {
      const int64_t y = i / width, x = i % width;
      return 1 + (y > 0) + (y + 1 < height) + (x > 0) + (x + 1 < width);
    };
    const int64_t n = height * width;
    std::vector<double> a(static_cast<size_t>(n * n), 0);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        if (std::abs(i / width - j / width) + std::abs(i % width - j % width) <= 1)
          a[static_cast<size_t>(i * n + j)] = 1 / std::sqrt(static_cast<double>(degree(i) * degree(j)));
      }
    }
    return at::tensor(a, at::kDouble).view({1, n, n});
  }
  DeviceConstants constants_;
};

struct SparseConstantOptions {
  int64_t size = 1;
  std::vector<int64_t> rows;
  std::vector<int64_t> columns;

  static void declare(Declare<SparseConstantOptions>& p) {
    p("size", &SparseConstantOptions::size, at_least(1), "Number of rows, which is that of the columns, too.");
    p("rows", &SparseConstantOptions::rows, at_least(0), "Row of each entry.");
    p("columns", &SparseConstantOptions::columns, at_least(0), "Column of each entry.");
  }
};

// A square matrix [size, size] of which few entries are not zero: an adjacency that was learned. It is not trained.
class SparseConstant final : public OperationOf<SparseConstant, SparseConstantOptions>,
                             public HoldsValue,
                             public SparseMatrix {
 public:
  static constexpr const char* name = "sparse_constant";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (o_.rows.size() != o_.columns.size() || o_.rows.empty())
      n.refuse("a sparse matrix needs as many rows as columns, one of each for every entry");
    for (size_t i = 0; i < o_.rows.size(); ++i) {
      if (o_.rows[i] >= o_.size || o_.columns[i] >= o_.size)
        n.refuse("entry " + std::to_string(i) + " lies outside of the matrix of " + std::to_string(o_.size) + " rows");
    }
    n.buffer("value", "constant", {NodeBuilder::makes(Dim::of(static_cast<int64_t>(o_.rows.size())))}, 0, 0);
    n.output({Dim::of(o_.size), Dim::of(o_.size)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& v = f.parameter(0);
    return {
        at::zeros({o_.size * o_.size}, v.options()).index_copy(0, places(v.device()), v).view({1, o_.size, o_.size})};
  }
  at::Tensor held(const at::Tensor& value) const override { return value.flatten().index_select(0, places(at::kCPU)); }
  int64_t entries() const override { return static_cast<int64_t>(o_.rows.size()); }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override {
    return {
        "sparse_constant({p0}, " + to_string(o_.rows) + ", " + to_string(o_.columns) + ", " + std::to_string(o_.size) +
            ")",
        R"py(def sparse_constant(value: torch.Tensor, rows: list[int], columns: list[int], size: int) -> torch.Tensor:
    at = torch.tensor(rows, device=value.device) * size + torch.tensor(columns, device=value.device)
    zero = torch.zeros([size * size], dtype=value.dtype, device=value.device)
    return zero.index_copy(0, at, value).view(1, size, size)
)py"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    const at::Tensor& v = to.values(0);
    return {to.constant(
        at::zeros({o_.size * o_.size}, v.options()).index_copy(0, places(v.device()), v).view({1, o_.size, o_.size}))};
  }

 private:
  at::Tensor places(at::Device device) const {
    return constants_.get({0}, device, at::kLong, [&] {
      std::vector<int64_t> at;
      for (size_t i = 0; i < o_.rows.size(); ++i) at.push_back(o_.rows[i] * o_.size + o_.columns[i]);
      return integers(at);
    });
  }
  DeviceConstants constants_;
};

}  // namespace

std::vector<Component> graph_operations() {
  return {component<GraphConv>(GraphConv::name, "graph convolution"),
          component<GridAdjacency>(GridAdjacency::name, "the normalised adjacency of an image's pixels"),
          component<SparseConstant>(SparseConstant::name, "a matrix of which few entries are not zero")};
}

}  // namespace espalier
