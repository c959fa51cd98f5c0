#include <algorithm>
#include <array>

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "attention.h"
#include "builtin.h"
#include "constants.h"
#include "espalier/error.h"
#include "espalier/onnx.h"
#include "fast_window_attention.h"
#include "kernels/window_attention_kernels.h"

namespace espalier {
namespace {

// Attention within windows of [H, W, heads x head dimension] (Swin, Liu et al. 2021), with a bias for each head and
// relative position. Shifted windows wrap around; tokens that come from different sides do not see each other. What
// fills the last windows wraps around, too, unless the shift comes first.
class WindowAttention final : public OperationOf<WindowAttention, WindowAttentionOptions> {
 public:
  static constexpr const char* name = "window_attention";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    require_heads(n);
    Shape y = n.input(2);
    if (y.size() != 3) n.refuse("windows need inputs of [height, width, heads x head dimension]");
    const std::vector<int64_t> sizes = n.input_sizes(2);
    if (sizes[0] % o_.window || sizes[1] % o_.window)
      n.refuse("height and width must be multiples of the window, " + std::to_string(o_.window));
    if (o_.shift >= o_.window) n.refuse("the shift must be smaller than the window");
    if (o_.height > sizes[0] || o_.width > sizes[1]) n.refuse("the output cannot be larger than the input");
    const int64_t side = 2 * o_.window - 1;
    const Factor heads = y.back().segments[0].factors[0];
    n.parameter("relative_position_bias", "embedding",
                {NodeBuilder::makes(Dim::of(side * side)), NodeBuilder::makes({{{{heads}}}})},
                {Initializer::Kind::normal, 0.02});
    if (o_.height) y[0] = Dim::of(o_.height);
    if (o_.width) y[1] = Dim::of(o_.width);
    n.output(std::move(y));
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    const Map map = map_of(f);
    if (f.pass.fuse && is_fast_window_attention(f.inputs[0], f.inputs[1], f.inputs[2])) {
      return {fast_window_attention(f.inputs[0], f.inputs[1], f.inputs[2], f.parameter(0), layout(map), o_.scale,
                                    map.out[0], map.out[1])};
    }
    const int64_t heads = head_sizes(f.graph, f.node).heads;
    const at::Tensor& x = f.inputs[0];
    const int64_t height = x.size(1), width = x.size(2), tokens = o_.window * o_.window;
    const auto indices = [&](int64_t what, auto make) {
      return constants_.get({what, height, width}, x.device(), at::kLong, [&] { return integers(make()); });
    };
    const at::Tensor order = indices(0, [&] { return window_order(map); });
    // [batch, windows, heads, tokens, head dimension]
    const auto split = [&](size_t i) {
      return f.inputs[i]
          .flatten(1, 2)
          .index_select(1, order)
          .view({x.size(0), -1, tokens, heads, f.inputs[i].size(3) / heads})
          .transpose(2, 3);
    };
    at::Tensor logits = at::matmul(split(0) * o_.scale, split(1).transpose(-2, -1));
    const at::Tensor table = f.parameter(0).index_select(0, indices(1, [&] { return relative_positions(); }));
    logits = logits + table.view({tokens, tokens, heads}).permute({2, 0, 1});
    if (o_.shift > 0) {
      logits = logits + constants_.get({2, height, width}, x.device(), logits.scalar_type(), [&] {
        return at::Tensor(integers(mask(height, width)).to(at::kDouble)).view({-1, 1, tokens, tokens});
      });
    }
    const at::Tensor y = at::matmul(at::softmax(logits, -1), split(2));
    return {y.transpose(2, 3)
                .reshape({x.size(0), height * width, -1})
                .index_select(1, indices(3, [&] { return grid_order(map); }))
                .view({x.size(0), map.out[0], map.out[1], -1})};
  }

  int64_t macs(const Graph& g, const Node& node) const override {
    const HeadSizes s = head_sizes(g, node);
    const std::vector<int64_t> sizes = g.sizes(g[node.inputs[0]].shape);
    return sizes[0] * sizes[1] * o_.window * o_.window * s.heads * (s.query + s.value);
  }

  // A channel of zeros adds nothing to the products, and gives zeros where it is the values'; the scale stays.
  bool preserves_zero() const override { return true; }
  bool contracts(const Graph& graph, const Node& node, Axis axis) const override {
    return graph[node.inputs[0]].shape.back().segments[0].factors.back().axis == axis;
  }

  // The rows of the table for each pair of tokens, and what is added for pairs of each shifted window, as the reference
  // has them.
  std::vector<std::pair<std::string, at::Tensor>> constants(const Graph& g, const Node& node) const override {
    const int64_t tokens = o_.window * o_.window;
    const std::vector<int64_t> in = g.sizes(g[node.inputs[0]].shape);
    std::vector<std::pair<std::string, at::Tensor>> all{
        {"relative_position_index", at::Tensor(integers(relative_positions())).view({tokens, tokens})}};
    if (o_.shift > 0)
      all.emplace_back("attn_mask", at::Tensor(integers(mask(in[0], in[1]))).to(at::kFloat).view({-1, tokens, tokens}));
    return all;
  }

  PythonForm python(const Graph& g, const Node& node) const override {
    const std::vector<int64_t> out = g.sizes(g[node.outputs[0]].shape);
    return {
        "window_attention({0}, {1}, {2}, {p0}, " + std::to_string(head_sizes(g, node).heads) + ", " +
            std::to_string(o_.window) + ", " + std::to_string(o_.shift) + ", " + to_json(o_.scale) + ", " +
            std::to_string(out[0]) + ", " + std::to_string(out[1]) + (o_.shift_first ? ", True)" : ", False)"),
        R"py(def window_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, table: torch.Tensor, heads: int,
                     window: int, shift: int, scale: float, height: int, width: int,
                     shift_first: bool) -> torch.Tensor:
    rows = q.size(1)
    columns = q.size(2)
    tokens = window * window
    # The tokens of one window after the other, shifted.
    grid = torch.arange(rows * columns, device=q.device).view(rows, columns)
    if shift_first:
        order = grid.clone()
        order[:height] = torch.roll(order[:height], [-shift], [0])
        order[:, :width] = torch.roll(order[:, :width], [-shift], [1])
    else:
        order = torch.roll(grid, [-shift, -shift], [0, 1])
    order = order.view(rows // window, window, columns // window, window).transpose(1, 2).flatten()
    q = q.flatten(1, 2)[:, order].view(q.size(0), -1, tokens, heads, q.size(3) // heads).transpose(2, 3)
    k = k.flatten(1, 2)[:, order].view(k.size(0), -1, tokens, heads, k.size(3) // heads).transpose(2, 3)
    v = v.flatten(1, 2)[:, order].view(v.size(0), -1, tokens, heads, v.size(3) // heads).transpose(2, 3)
    y = torch.arange(tokens, device=q.device) // window
    x = torch.arange(tokens, device=q.device) % window
    dy = y.unsqueeze(1) - y.unsqueeze(0) + window - 1
    dx = x.unsqueeze(1) - x.unsqueeze(0) + window - 1
    bias = table[(dy * (2 * window - 1) + dx).flatten()].view(tokens, tokens, heads).permute(2, 0, 1)
    logits = torch.matmul(q * scale, k.transpose(-2, -1)) + bias
    if shift > 0:
        # 0: not at the end, 1: in the last window and from this side, 2: from the other side.
        r = torch.arange(rows, device=q.device)
        c = torch.arange(columns, device=q.device)
        r = (r >= rows - window).long() + (r >= rows - shift).long()
        c = (c >= columns - window).long() + (c >= columns - shift).long()
        side = r.unsqueeze(1) * 3 + c.unsqueeze(0)
        side = side.view(rows // window, window, columns // window, window).transpose(1, 2).reshape(-1, 1, tokens)
        apart = side.unsqueeze(2) != side.unsqueeze(3)
        logits = logits - 100.0 * apart.to(logits.dtype)
    out = torch.matmul(torch.softmax(logits, -1), v).transpose(2, 3).reshape(v.size(0), rows * columns, -1)
    back = torch.argsort(order).view(rows, columns)[:height, :width].flatten()
    return out[:, back].view(v.size(0), height, width, out.size(2))
)py"};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const HeadSizes s = head_sizes(g, node);
    const std::vector<int64_t> in = g.sizes(g[node.inputs[0]].shape);
    const std::vector<int64_t> out = g.sizes(g[node.outputs[0]].shape);
    const Map map{{in[0], in[1]}, {out[0], out[1]}};
    const int64_t all = in[0] * in[1], tokens = o_.window * o_.window, windows = all / tokens;
    const std::string order = integers(to, window_order(map));
    const auto split = [&](size_t i, int64_t dim, std::vector<int64_t> axes) {
      std::string x = to.add("Reshape", {to.input(i), integers(to, {-1, all, s.heads * dim})});
      x = to.add("Gather", {x, order}, {{"axis", int64_t{1}}});
      x = to.add("Reshape", {x, integers(to, {-1, windows, tokens, s.heads, dim})});
      return to.add("Transpose", {x}, {{"perm", std::move(axes)}});
    };
    const std::string q =
        to.add("Mul", {split(0, s.query, {0, 1, 3, 2, 4}), to.constant(at::scalar_tensor(o_.scale, at::kFloat))});
    std::string logits = to.add("MatMul", {q, split(1, s.query, {0, 1, 3, 4, 2})});
    std::string bias = to.add("Gather", {to.parameter(0), integers(to, relative_positions())}, {{"axis", int64_t{0}}});
    bias = to.add("Reshape", {bias, integers(to, {tokens, tokens, s.heads})});
    bias = to.add("Transpose", {bias}, {{"perm", std::vector<int64_t>{2, 0, 1}}});
    logits = to.add("Add", {logits, bias});
    if (o_.shift > 0) {
      logits = to.add(
          "Add", {logits, to.constant(integers(mask(in[0], in[1])).to(at::kFloat).view({windows, 1, tokens, tokens}))});
    }
    const std::string weights = to.add("Softmax", {logits}, {{"axis", int64_t{-1}}});
    std::string y = to.add("MatMul", {weights, split(2, s.value, {0, 1, 3, 2, 4})});
    y = to.add("Transpose", {y}, {{"perm", std::vector<int64_t>{0, 1, 3, 2, 4}}});
    y = to.add("Reshape", {y, integers(to, {-1, all, s.heads * s.value})});
    y = to.add("Gather", {y, integers(to, grid_order(map))}, {{"axis", int64_t{1}}});
    return {to.add("Reshape", {y, integers(to, {-1, out[0], out[1], s.heads * s.value})})};
  }

 private:
  // Calls body(row, column) for each token of the shifted map, window by window.
  template <class Body>
  void for_each_token(int64_t height, int64_t width, const Body& body) const {
    for (int64_t top = 0; top < height; top += o_.window) {
      for (int64_t left = 0; left < width; left += o_.window) {
        for (int64_t y = top; y < top + o_.window; ++y) {
          for (int64_t x = left; x < left + o_.window; ++x) body(y, x);
        }
      }
    }
  }

  // Rows and columns of the input and of the output.
  struct Map {
    std::array<int64_t, 2> in, out;
  };

  // Of the maps that there are. Those of other sizes than the graph's must be whole windows without anything that only
  // fills them: how much that is, the options say of the graph's sizes alone.
  Map map_of(const Forward& f) const {
    const std::vector<int64_t> in = f.graph.sizes(f.graph[f.node.inputs[0]].shape);
    const std::vector<int64_t> out = f.graph.sizes(f.graph[f.node.outputs[0]].shape);
    Map map{{f.inputs[0].size(1), f.inputs[0].size(2)}, {out[0], out[1]}};
    for (size_t d = 0; d < 2; ++d) {
      if (map.in[d] == in[d]) continue;
      if (in[d] != out[d] || map.in[d] % o_.window != 0) {
        throw Error("the windows of '" + f.node.name + "' are those of a map of " + std::to_string(in[0]) + " x " +
                    std::to_string(in[1]) + " tokens, and there are " + std::to_string(map.in[0]) + " x " +
                    std::to_string(map.in[1]) +
                    ": this network needs images of the height and the width that it was built for");
      }
      map.out[d] = map.in[d];
    }
    return map;
  }

  // Where each token of each window stands in the map, row by row.
  std::vector<int64_t> window_order(const Map& map) const {
    const auto shifted = [&](int64_t i, size_t dim) {
      const int64_t n = o_.shift_first ? map.out[dim] : map.in[dim];
      return i < n ? (i + o_.shift) % n : i;
    };
    std::vector<int64_t> order;
    for_each_token(map.in[0], map.in[1],
                   [&](int64_t y, int64_t x) { order.push_back(shifted(y, 0) * map.in[1] + shifted(x, 1)); });
    return order;
  }

  // The inverse, for the rows and columns of the output.
  std::vector<int64_t> grid_order(const Map& map) const {
    const std::vector<int64_t> order = window_order(map);
    std::vector<int64_t> inverse(order.size());
    for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    std::vector<int64_t> result;
    for (int64_t y = 0; y < map.out[0]; ++y) {
      for (int64_t x = 0; x < map.out[1]; ++x) result.push_back(inverse[static_cast<size_t>(y * map.in[1] + x)]);
    }
    return result;
  }

  // Orders, rows of the table and masks as fast_window_attention() takes them.
  WindowLayout layout(const Map& map) const {
    const int64_t height = map.in[0], width = map.in[1], tokens = o_.window * o_.window;
    const auto get = [&](int64_t what, at::ScalarType type, auto make) {
      return constants_.get({what, height, width}, at::kCPU, type, make);
    };
    const auto window_tokens = [&](const std::vector<int64_t>& v) { return integers(v).view({-1, tokens}); };
    const auto places = [&] {
      // Where each token of each window goes; those that only fill up a window go nowhere.
      const std::vector<int64_t> back = grid_order(map);
      std::vector<int64_t> to(static_cast<size_t>(height * width), -1);
      for (size_t i = 0; i < back.size(); ++i) to[static_cast<size_t>(back[i])] = static_cast<int64_t>(i);
      return window_tokens(to);
    };
    // Most windows have no mask, and those at an edge have the same one.
    const auto kinds = [&] {
      std::vector<std::vector<int64_t>> all;
      std::vector<int64_t> of;
      if (o_.shift == 0) return std::pair(all, std::vector<int64_t>(static_cast<size_t>(height * width / tokens), -1));
      const std::vector<int64_t> values = mask(height, width);
      for (auto first = values.begin(); first != values.end(); first += tokens * tokens) {
        const std::vector<int64_t> one(first, first + tokens * tokens);
        const auto found = std::find(all.begin(), all.end(), one);
        const bool empty = std::all_of(one.begin(), one.end(), [](int64_t v) { return v == 0; });
        of.push_back(empty ? -1 : found - all.begin());
        if (!empty && found == all.end()) all.push_back(one);
      }
      return std::pair(all, of);
    };
    const auto masks = [&] {
      const auto all = kinds().first;
      at::Tensor filled = at::zeros({static_cast<int64_t>(all.size()), tokens, row_of(tokens)});
      for (size_t i = 0; i < all.size(); ++i)
        filled[static_cast<int64_t>(i)].slice(1, 0, tokens).copy_(integers(all[i]).view({tokens, tokens}));
      return filled;
    };
    return {.from = get(4, at::kLong, [&] { return window_tokens(window_order(map)); }),
            .to = get(5, at::kLong, places),
            .rows = get(6, at::kLong,
                        [&] {
                          return integers(relative_positions()).view({tokens, tokens});
                        }),
            .masks = get(7, at::kFloat, masks),
            .mask_of = get(8, at::kLong, [&] { return integers(kinds().second); })};
  }

  // For each pair of tokens of a window the row of the table.
  std::vector<int64_t> relative_positions() const {
    const int64_t w = o_.window;
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < w * w; ++i) {
      for (int64_t j = 0; j < w * w; ++j) rows.push_back((i / w - j / w + w - 1) * (2 * w - 1) + i % w - j % w + w - 1);
    }
    return rows;
  }

  // -100, as the reference has it, for each pair of tokens of a window that come from different sides of the map.
  std::vector<int64_t> mask(int64_t height, int64_t width) const {
    const auto part = [&](int64_t i, int64_t n) { return i < n - o_.window ? 0 : i < n - o_.shift ? 1 : 2; };
    std::vector<int64_t> sides;
    for_each_token(height, width, [&](int64_t y, int64_t x) { sides.push_back(3 * part(y, height) + part(x, width)); });
    const auto tokens = static_cast<size_t>(o_.window * o_.window);
    std::vector<int64_t> values;
    for (size_t first = 0; first < sides.size(); first += tokens) {
      for (size_t i = 0; i < tokens; ++i) {
        for (size_t j = 0; j < tokens; ++j) values.push_back(sides[first + i] == sides[first + j] ? 0 : -100);
      }
    }
    return values;
  }

  DeviceConstants constants_;
};

}  // namespace

Component window_attention_operation() {
  return component<WindowAttention>(WindowAttention::name, "attention within (shifted) windows");
}

}  // namespace espalier
