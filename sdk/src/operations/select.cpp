#include <algorithm>
#include <optional>

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/index_select.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/onnx.h"
#include "espalier/rewrite.h"

namespace espalier {
namespace {

// The channels of the input at the positions `index` (-1: zero), as an axis of its own: a consumer that reads a part, a
// shortcut between unequal widths. Images may be subsampled too.
class Select final : public OperationOf<Select, SelectOptions> {
 public:
  static constexpr const char* name = "select";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape x = n.input(0);
    const size_t d = channel_dim(x);
    const int64_t have = n.input_sizes(0)[d];
    const Axis out = n.axis(0);
    if (n.graph()[out].size != static_cast<int64_t>(o_.index.size()))
      n.refuse("the index needs one entry for each channel of the output");
    for (const int64_t i : o_.index) {
      if (i >= have) n.refuse("the input has no channel " + std::to_string(i));
    }
    if (o_.stride > 1) {
      if (x.size() != 3 || d != 0) n.refuse("a stride needs an input of [channels, height, width]");
      for (size_t s = 1; s < 3; ++s) x[s] = Dim::of((n.input_sizes(0)[s] - 1) / o_.stride + 1);
    }
    x[d] = Dim::of(out);
    n.output(std::move(x));
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    const int64_t d = dim(f.graph, f.node);
    at::Tensor x = f.inputs[0];
    if (o_.stride > 1) x = x.slice(2, 0, x.size(2), o_.stride).slice(3, 0, x.size(3), o_.stride);
    if (const auto run = neighbours()) {
      // A view would keep the gaps between its pixels, and its gradient would not be in channels_last order.
      x = padded(x, d, -run->first, run->first + run->count - x.size(d));
      return {padded(x, d, run->before, run->behind)};
    }
    const at::Tensor index = constants_.get({0}, x.device(), at::kLong, [&] { return integers(filled()); });
    x = x.index_select(d, index);
    if (!has_zeros()) return {x};
    const at::Tensor mask = constants_.get({1, x.dim() - d}, x.device(), x.scalar_type(), [&] {
      std::vector<int64_t> shape(static_cast<size_t>(x.dim() - d), 1);
      shape[0] = -1;
      return integers(o_.index).ge(0).to(at::kDouble).view(shape);
    });
    return {x.mul(mask)};
  }

  bool preserves_zero() const override { return true; }

  std::shared_ptr<const Operation> follow(const Graph& before, const Node& node,
                                          const std::vector<AxisChange>& changes) const override {
    const Shape& x = before[node.inputs[0]].shape;
    const Shape& y = before[node.outputs[0]].shape;
    const auto in = gather(before, x[channel_dim(x)], changes);
    const auto out = gather(before, y[channel_dim(y)], changes);
    if (!in && !out) return nullptr;
    SelectOptions o = o_;
    if (out) {
      o.index.clear();
      for (const int64_t i : *out) o.index.push_back(i < 0 ? -1 : o_.index[static_cast<size_t>(i)]);
    }
    if (in) {
      for (int64_t& i : o.index) {
        const auto at = i < 0 ? in->end() : std::ranges::find(*in, i);
        i = at == in->end() ? -1 : at - in->begin();
      }
    }
    return std::make_shared<Select>(std::move(o));
  }

  std::vector<AxisChange> entail(const Graph& before, const Node& node,
                                 const std::vector<AxisChange>& changes) const override {
    if (!o_.drops) return {};
    const Shape& x = before[node.inputs[0]].shape;
    const Shape& y = before[node.outputs[0]].shape;
    const auto in = gather(before, x[channel_dim(x)], changes);
    const Axis view = y[channel_dim(y)].whole();
    if (!in || view.id < 0) return {};
    // Where the view changes too, that change without what it can no longer read.
    const auto also = std::ranges::find(changes, view, &AxisChange::axis);
    Indices old = also == changes.end() ? Indices() : also->from;
    if (also == changes.end()) {
      for (size_t i = 0; i < o_.index.size(); ++i) old.push_back(static_cast<int64_t>(i));
    }
    AxisChange entailed{view, {}};
    for (const int64_t j : old) {
      const int64_t i = j < 0 ? -1 : o_.index[static_cast<size_t>(j)];
      if (i < 0 || std::ranges::find(*in, i) != in->end()) entailed.from.push_back(j);
    }
    if (entailed.from.size() == old.size()) return {};
    return {entailed};
  }

  PythonForm python(const Graph& g, const Node& node) const override {
    const Shape& from = g[node.inputs[0]].shape;
    if (const auto run = neighbours()) {
      const int64_t d = dim(g, node);
      std::string x = "{0}";
      if (o_.stride > 1) x += "[:, :, ::" + std::to_string(o_.stride) + ", ::" + std::to_string(o_.stride) + "]";
      if (run->count != g.size(from[channel_dim(from)])) {
        x += ".narrow(" + std::to_string(d) + ", " + std::to_string(run->first) + ", " + std::to_string(run->count) +
             ")";
      }
      if (run->before + run->behind == 0) return {x};
      std::vector<int64_t> zeros(2 * (from.size() + 1 - static_cast<size_t>(d)), 0);
      zeros[zeros.size() - 2] = run->before;
      zeros[zeros.size() - 1] = run->behind;
      return {"torch.constant_pad_nd(" + x + ", " + to_string(zeros) + ")"};
    }
    return {"select_channels({0}, " + to_string(o_.index) + ", " + std::to_string(dim(g, node)) + ", " +
                std::to_string(o_.stride) + ")",
            R"py(def select_channels(x: torch.Tensor, index: list[int], dim: int, stride: int) -> torch.Tensor:
    if stride > 1:
        x = x[:, :, ::stride, ::stride]
    zero = torch.zeros_like(x.narrow(dim, 0, 1))
    at = torch.tensor(index, device=x.device)
    return torch.cat([x, zero], dim).index_select(dim, torch.where(at < 0, x.size(dim), at))
)py"};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const int64_t d = dim(g, node);
    std::string x = to.input(0);
    if (o_.stride > 1) {
      const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
      x = to.add("Slice", {x, integers(to, {0, 0}), integers(to, {sizes[1], sizes[2]}), integers(to, {2, 3}),
                           integers(to, {o_.stride, o_.stride})});
    }
    if (has_zeros()) {
      // One channel of zeros behind the others; -1 counts from the end.
      const size_t dims = g[node.inputs[0]].shape.size() + 1;
      std::vector<int64_t> zeros(2 * dims, 0);
      zeros[dims + static_cast<size_t>(d)] = 1;
      x = to.add("Pad", {x, integers(to, zeros)}, {{"mode", std::string("constant")}});
    }
    return {to.add("Gather", {x, integers(to, o_.index)}, {{"axis", d}})};
  }

 private:
  // Neighbours with zeros around them, as shortcuts begin: no index is needed.
  struct Neighbours {
    int64_t before, first, count, behind;
  };
  std::optional<Neighbours> neighbours() const {
    const auto first = std::ranges::find_if(o_.index, [](int64_t i) { return i >= 0; });
    const auto last = std::find_if(first, o_.index.end(), [](int64_t i) { return i < 0; });
    const bool run = first != last &&
                     std::ranges::adjacent_find(first, last, [](int64_t a, int64_t b) { return b != a + 1; }) == last &&
                     std::all_of(last, o_.index.end(), [](int64_t i) { return i < 0; });
    if (!run) return std::nullopt;
    return Neighbours{first - o_.index.begin(), *first, last - first, o_.index.end() - last};
  }
  // Zeros before and behind the dimension; negative numbers take away.
  static at::Tensor padded(const at::Tensor& x, int64_t d, int64_t before, int64_t behind) {
    if (before == 0 && behind == 0) return x;
    std::vector<int64_t> zeros(static_cast<size_t>(2 * (x.dim() - d)), 0);
    zeros[zeros.size() - 2] = before;
    zeros[zeros.size() - 1] = behind;
    return at::constant_pad_nd(x, zeros);
  }
  static int64_t dim(const Graph& g, const Node& node) {
    return static_cast<int64_t>(channel_dim(g[node.inputs[0]].shape)) + 1;
  }
  bool has_zeros() const { return std::ranges::find(o_.index, -1) != o_.index.end(); }
  std::vector<int64_t> filled() const {
    std::vector<int64_t> i = o_.index;
    std::ranges::replace(i, -1, 0);
    return i;
  }
  DeviceConstants constants_;
};

}  // namespace

Component select_operation() {
  return component<Select>(Select::name, "channels at given positions, an index view between two axes");
}

}  // namespace espalier
