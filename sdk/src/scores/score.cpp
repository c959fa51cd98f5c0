#include "espalier/score.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/rewrite.h"
#include "espalier/selector.h"
#include "scores/builtin.h"

namespace espalier {

namespace {

std::vector<bool> dimensions_that(const Graph& graph, ParamId parameter, Axis axis, bool input) {
  const Parameter& p = graph[parameter];
  std::vector<bool> result;
  for (size_t d = 0; d < p.shape.size(); ++d) result.push_back(p.input[d] == input && p.shape[d].reads(axis));
  return result;
}

// Why a width cannot be pruned; empty: it can.
std::string reason(const Graph& graph, Axis axis) {
  const AxisInfo& a = graph[axis];
  if (a.fixed) return "its size is given from outside";
  if (graph.producers(axis).empty()) return "no layer's weights make it";
  if (a.size < 2) return "it has a single position";
  return "";
}

// Whether a node hands on each position of its input by itself: batch norm, activation functions, gates, depthwise
// convolutions.
bool passes_positions(const Graph& graph, const Node& n, Edge from, bool sums) {
  if (n.outputs.size() != 1 || n.inputs.front() != from || n.op->reduces_over_width()) {
    if (!(sums && n.op->type() == "add")) return false;
  }
  const Shape& x = graph[from].shape;
  const Shape& y = graph[n.outputs.front()].shape;
  if (sums && n.op->type() == "add") return x == y;
  if (n.inputs.size() > 1 && n.op->type() != "gate") return false;
  const bool layer = std::ranges::any_of(n.parameters, [&](ParamId p) { return graph[p].kind == "weight"; });
  const bool columns = std::ranges::any_of(n.parameters, [&](ParamId p) {
    for (size_t d = 0; d < graph[p].shape.size(); ++d) {
      if (graph[p].input[d] && graph[p].shape[d].has_axis()) return true;
    }
    return false;
  });
  if (columns) return false;
  return layer ? x[channel_dim(x)] == y[channel_dim(y)] : x == y;
}

}  // namespace

const Node* sole_reader(const Graph& graph, Edge edge) {
  const Node* reader = nullptr;
  for (const Node& n : graph.nodes()) {
    const auto reads = std::ranges::count(n.inputs, edge);
    if (reads == 0) continue;
    if (reader || reads > 1) return nullptr;
    reader = &n;
  }
  const bool is_output = std::ranges::any_of(graph.outputs(), [&](const Port& p) { return p.edge == edge; });
  return is_output ? nullptr : reader;
}

std::vector<Axis> prunable_axes(const Graph& graph, const Selector& on) {
  std::vector<Axis> axes = graph.axes(on);
  std::erase_if(axes, [&](Axis a) { return !reason(graph, a).empty(); });
  return axes;
}

std::vector<ViewInfo> views(const Graph& graph) {
  std::vector<ViewInfo> all;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& n = graph.nodes()[i];
    if (n.op->type() != "select") continue;
    const Value options = n.op->options();
    if (!options.at("drops").as_bool()) continue;
    const Shape& to = graph[n.outputs.front()].shape;
    const Shape& from = graph[n.inputs.front()].shape;
    ViewInfo view{static_cast<int32_t>(i), to[channel_dim(to)].whole(), from[channel_dim(from)].whole(), {}};
    for (const Value& k : options.at("index").as_list()) view.index.push_back(k.as_int());
    if (view.axis.id >= 0) all.push_back(std::move(view));
  }
  return all;
}

std::vector<Axis> view_axes(const Graph& graph, const Selector& on) {
  const std::vector<ParamId> named = on.match(graph);
  std::vector<Axis> axes;
  for (const ViewInfo& v : views(graph)) {
    const auto has = [&](ParamId p) {
      return std::ranges::any_of(graph[p].shape, [&](const Dim& d) { return d.reads(v.axis); });
    };
    // What a layer makes as well (a sum behind the view) is no view's alone.
    const bool alone = !graph[v.axis].fixed && graph[v.axis].size > 1 && graph.producers(v.axis).empty();
    if (alone && (on.empty() || std::ranges::any_of(named, has)) && std::ranges::find(axes, v.axis) == axes.end())
      axes.push_back(v.axis);
  }
  std::ranges::sort(axes);
  return axes;
}

std::vector<std::string> unprunable_axes(const Graph& graph) {
  std::vector<std::string> lines;
  for (size_t i = 0; i < graph.axes().size(); ++i) {
    const Axis axis{static_cast<int32_t>(i)};
    const std::string why = reason(graph, axis);
    if (!why.empty()) lines.push_back("'" + graph[axis].name + "' (" + std::to_string(graph[axis].size) + "): " + why);
  }
  return lines;
}

std::vector<bool> makes(const Graph& graph, ParamId parameter, Axis axis) {
  return dimensions_that(graph, parameter, axis, false);
}

std::vector<bool> reads(const Graph& graph, ParamId parameter, Axis axis) {
  return dimensions_that(graph, parameter, axis, true);
}

at::Tensor rows_of(const Graph& graph, const at::Tensor& tensor, const Shape& shape, Axis axis,
                   const std::vector<bool>& dimensions) {
  const at::Tensor values = tensor.detach().to(at::kCPU, at::kDouble);
  const int64_t positions = graph[axis].size;
  std::vector<at::Tensor> parts;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (!dimensions[d]) continue;
    // Each position has as many places along the dimension as any other: groups, heads, several segments.
    std::vector<Indices> places(static_cast<size_t>(positions));
    const Indices at = axis_positions(graph, shape[d], axis);
    for (size_t i = 0; i < at.size(); ++i) {
      if (at[i] >= 0) places[static_cast<size_t>(at[i])].push_back(static_cast<int64_t>(i));
    }
    Indices order;
    for (const Indices& p : places) order.insert(order.end(), p.begin(), p.end());
    const at::Tensor rows =
        values.movedim(static_cast<int64_t>(d), 0).reshape({values.size(static_cast<int64_t>(d)), -1});
    parts.push_back(rows.index_select(0, at::tensor(order, at::kLong)).reshape({positions, -1}));
  }
  if (parts.empty()) throw Error("the tensor has no dimension along '" + graph[axis].name + "'");
  return parts.size() == 1 ? parts.front() : at::cat(parts, 1);
}

AxisScores scores_of(Axis axis, const at::Tensor& values) {
  const at::Tensor v = values.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* first = v.const_data_ptr<double>();
  return {axis, {first, first + v.numel()}};
}

std::vector<Edge> feature_edges(const Graph& graph, Axis axis, bool sums) {
  std::vector<Edge> edges;
  for (const ParamId p : graph.producers(axis)) {
    Edge edge = graph.nodes()[static_cast<size_t>(graph[p].node)].outputs.front();
    const auto has_axis = [&](Edge e) {
      return std::ranges::any_of(graph[e].shape, [&](const Dim& d) { return d.reads(axis); });
    };
    if (!has_axis(edge)) continue;
    for (const Node* next = sole_reader(graph, edge); next && passes_positions(graph, *next, edge, sums);
         next = sole_reader(graph, edge)) {
      if (!has_axis(next->outputs.front())) break;
      edge = next->outputs.front();
    }
    if (std::ranges::find(edges, edge) == edges.end()) edges.push_back(edge);
  }
  return edges;
}

std::vector<Component> builtin_scores() {
  std::vector<Component> all;
  for (auto* part : {weight_scores, gradient_scores, feature_scores, reconstruction_scores}) {
    for (Component& c : part()) all.push_back(std::move(c));
  }
  return all;
}

}  // namespace espalier
