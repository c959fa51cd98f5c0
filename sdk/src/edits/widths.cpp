// Shrinking and growing axes.
#include <algorithm>

#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "edits/draft.h"
#include "espalier/operation.h"
#include "espalier/random.h"

namespace espalier {

namespace {

AxisChange change_of(const Graph& graph, const Shrink& e) {
  const Axis axis = graph.axis(e.axis);
  const int64_t size = graph[axis].size;
  const std::string what = "cannot shrink the axis '" + e.axis + "' (" + std::to_string(size) + " elements): ";
  if (graph[axis].fixed) throw EditError(what + "its size is given from outside");
  if (e.keep.empty()) throw EditError(what + "nothing would be left of it, and the network would be cut");
  for (size_t i = 0; i < e.keep.size(); ++i) {
    if (e.keep[i] < 0 || e.keep[i] >= size) throw EditError(what + "it has no position " + std::to_string(e.keep[i]));
    if (i > 0 && e.keep[i] <= e.keep[i - 1]) throw EditError(what + "the positions to keep must ascend");
  }
  return {axis, e.keep};
}

AxisChange change_of(const Graph& graph, const Grow& e) {
  const Axis axis = graph.axis(e.axis);
  const int64_t size = graph[axis].size;
  const std::string what = "cannot grow the axis '" + e.axis + "' (" + std::to_string(size) + " elements): ";
  if (graph[axis].fixed) throw EditError(what + "its size is given from outside");
  if (e.count < 1) throw EditError(what + std::to_string(e.count) + " new ones; at least 1 is needed");
  if (size + e.count > int64_t{1} << 24) throw EditError(what + std::to_string(e.count) + " new ones are too many");
  const std::vector<std::string> known{"random", "preserving", "orthogonal"};
  if (std::ranges::find(known, e.init) == known.end())
    throw EditError(what + "unknown init '" + e.init + "'" + suggestion(e.init, known));
  AxisChange change{axis, Indices(static_cast<size_t>(size + e.count), -1)};
  for (int64_t i = 0; i < size; ++i) change.from[static_cast<size_t>(i)] = i;
  return change;
}

// Changes that others entail, until there are no more.
void close(const Graph& graph, std::vector<AxisChange>& changes) {
  for (size_t round = 0; round <= graph.axes().size(); ++round) {
    bool more = false;
    for (const Node& n : graph.nodes()) {
      for (const AxisChange& entailed : n.op->entail(graph, n, changes)) {
        auto have = std::ranges::find(changes, entailed.axis, &AxisChange::axis);
        if (have == changes.end()) {
          changes.push_back(entailed);
          more = true;
          continue;
        }
        more = std::erase_if(have->from,
                             [&](int64_t i) {
                               return i >= 0 && std::ranges::find(entailed.from, i) == entailed.from.end();
                             }) > 0 ||
               more;
      }
    }
    if (!more) break;
  }
  for (const AxisChange& c : changes) {
    if (c.from.empty()) {
      throw EditError("cannot shrink the axis '" + graph[c.axis].name +
                      "': nothing would be left of it, and the network would be cut");
    }
    if (graph[c.axis].fixed)
      throw EditError("the axis '" + graph[c.axis].name + "' would change with it, and its size is given from outside");
  }
}

bool reads(const Graph& graph, const std::vector<Edge>& edges, Axis axis) {
  return std::ranges::any_of(
      edges, [&](Edge e) { return std::ranges::any_of(graph[e].shape, [&](const Dim& d) { return d.reads(axis); }); });
}

// Whether new positions of the axis count through the columns of layers alone: nothing sums over it otherwise.
bool reaches_columns_only(const Graph& graph, Axis axis) {
  return std::ranges::none_of(graph.nodes(), [&](const Node& n) {
    return n.op->contracts(graph, n, axis) ||
           (n.op->reduces_over_width() && (reads(graph, n.inputs, axis) || reads(graph, n.outputs, axis)));
  });
}

}  // namespace

Rewrite plan_widths(const Graph& graph, const Edits& edits, size_t& first) {
  Rewrite r{.graph = graph, .origin = {}, .axis_origin = {}};
  const std::string* init = nullptr;
  RandomKey key(0);
  bool shrinks = false;
  for (; first < edits.size(); ++first) {
    const auto* less = std::get_if<Shrink>(&edits[first].what);
    const auto* more = std::get_if<Grow>(&edits[first].what);
    if (!less && !more) break;
    if (more && init && *init != more->init) break;
    const AxisChange change = less ? change_of(graph, *less) : change_of(graph, *more);
    if (std::ranges::find(r.changes, change.axis, &AxisChange::axis) != r.changes.end()) break;
    r.changes.push_back(change);
    shrinks = shrinks || less;
    if (more) {
      init = &more->init;
      key = key.with(more->seed);
    }
  }
  close(graph, r.changes);

  for (const AxisChange& c : r.changes) r.graph.resize(c.axis, static_cast<int64_t>(c.from.size()));
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (auto op = graph.nodes()[n].op->follow(graph, graph.nodes()[n], r.changes))
      r.graph.replace_operation(static_cast<int32_t>(n), std::move(op));
  }
  for (size_t i = 0; i < graph.parameters().size(); ++i) r.origin.push_back({static_cast<int32_t>(i)});
  for (size_t i = 0; i < graph.axes().size(); ++i) r.axis_origin.push_back({static_cast<int32_t>(i)});
  if (init) {
    r.fill = {.key = key, .zero_columns = *init != "random", .orthogonal = *init == "orthogonal"};
    bool exact = *init != "random";
    for (const AxisChange& c : r.changes) {
      const bool grows = std::ranges::find(c.from, -1) != c.from.end();
      exact = exact && (grows ? reaches_columns_only(graph, c.axis) : inexact_at(graph, c.axis).empty());
    }
    r.effect = !exact ? Rewrite::Effect::changes : shrinks ? Rewrite::Effect::removes : Rewrite::Effect::preserves;
  }
  return r;
}

namespace {

// Whether a node fills the axis from another one without parameters of its own (a shortcut between unequal widths, a
// view): nothing of the axis's own could be set to zero.
bool is_view(const Graph& graph, const Node& n, Axis axis) {
  return reads(graph, n.outputs, axis) && !reads(graph, n.inputs, axis) && n.parameters.empty() && !n.inputs.empty();
}

bool has_view(const Graph& graph, Axis axis) {
  return std::ranges::any_of(graph.nodes(), [&](const Node& n) { return is_view(graph, n, axis); });
}

}  // namespace

void zero(const Graph& graph, Weights& weights, Axis axis, const Indices& positions) {
  const c10::NoGradGuard no_grad;
  if (positions.empty()) return;
  const bool view = has_view(graph, axis);  // then what reads the positions becomes zero
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (p.input[d] && !view) continue;
      const Indices at = positions_of(graph, p.shape[d], axis, positions);
      if (at.empty()) continue;
      at::Tensor t = weights[{static_cast<int32_t>(i)}];
      t.index_fill_(static_cast<int64_t>(d), at::tensor(at, at::kLong).to(t.device()), p.input[d] ? 0 : p.removed);
    }
  }
}

std::string inexact_at(const Graph& graph, Axis axis) {
  const bool view = has_view(graph, axis);
  // For each edge the node that makes something else than zero of the zeros there; null: they are zeros still.
  std::vector<const Node*> culprits(graph.edges().size(), nullptr);
  for (const Node& n : graph.nodes()) {
    const bool passes_on = reads(graph, n.outputs, axis);
    // Coefficients are made of nothing but parameters.
    if (!reads(graph, n.inputs, axis) && !(n.inputs.empty() && passes_on)) continue;
    if (n.op->reduces_over_width()) return n.name;
    const Node* culprit = nullptr;
    bool any_zero = false;
    for (const Edge e : n.inputs) {
      if (!reads(graph, {e}, axis)) continue;
      const Node* of_input = culprits[static_cast<size_t>(e.id)];
      any_zero = any_zero || !of_input;
      if (!culprit) culprit = of_input;
    }
    if (n.op->multiplies_inputs() && any_zero) culprit = nullptr;
    if (!n.op->preserves_zero()) culprit = &n;
    if (culprit && !passes_on) return culprit->name;
    for (const Edge e : n.outputs) culprits[static_cast<size_t>(e.id)] = culprit;
    // What a view brought here goes on into another width.
    if (view && n.parameters.empty() && !passes_on) return n.name;
  }
  return {};
}

}  // namespace espalier
