#include "espalier/edit.h"

#include <algorithm>
#include <map>

#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "espalier/operation.h"

namespace espalier {

namespace {

Rewrite plan_shrink(const Graph& graph, const Shrink& e) {
  const Axis axis = graph.axis(e.axis);
  const int64_t size = graph[axis].size;
  const std::string what = "cannot shrink the axis '" + e.axis + "' (" + std::to_string(size) + " elements): ";
  if (graph[axis].fixed) throw EditError(what + "its size is given from outside");
  if (e.keep.empty()) throw EditError(what + "nothing would be left of it, and the network would be cut");
  for (size_t i = 0; i < e.keep.size(); ++i) {
    if (e.keep[i] < 0 || e.keep[i] >= size) throw EditError(what + "it has no position " + std::to_string(e.keep[i]));
    if (i > 0 && e.keep[i] <= e.keep[i - 1]) throw EditError(what + "the positions to keep must ascend");
  }
  Rewrite r{graph, {}, {{axis, e.keep}}};
  r.graph.resize(axis, static_cast<int64_t>(e.keep.size()));
  for (size_t i = 0; i < graph.parameters().size(); ++i) r.origin.push_back({static_cast<int32_t>(i)});
  return r;
}

}  // namespace

std::string Edit::str() const {
  const auto& e = std::get<Shrink>(what);
  return "shrink " + e.axis + " to " + std::to_string(e.keep.size());
}

Value Edit::to_value() const {
  const auto& e = std::get<Shrink>(what);
  return Value::map({{"edit", "shrink"}, {"axis", e.axis}, {"keep", e.keep}});
}

Edit Edit::from_value(const Value& value) {
  const std::string& kind = value.at("edit").as_string();
  if (kind != "shrink") throw InputError(value.location.str(), "unknown edit '" + kind + "' (known: shrink)");
  Shrink e;
  e.axis = value.at("axis").as_string();
  for (const Value& i : value.at("keep").as_list()) e.keep.push_back(i.as_int());
  return {e};
}

Edit shrink(const Graph& graph, Axis axis, Indices keep) {
  return {Shrink{graph[axis].name, std::move(keep)}};
}

std::optional<Indices> Rewrite::gather(const Graph& before, const Dim& dim) const {
  Indices result;
  bool changed = false;
  int64_t start = 0;
  for (const Segment& s : dim.segments) {
    // Mixed radix: positions of the product of the factors so far.
    Indices positions{0};
    for (const Factor& f : s.factors) {
      const int64_t extent = before.size(Segment{{f}});
      const auto change = std::ranges::find(changes, f.axis, &AxisChange::axis);
      const Indices* from = f.axis.id < 0 || change == changes.end() ? nullptr : &change->from;
      changed = changed || from;
      Indices next;
      next.reserve(positions.size() * static_cast<size_t>(extent));
      for (const int64_t p : positions) {
        if (from) {
          for (const int64_t i : *from) next.push_back(p * extent + i);
        } else {
          for (int64_t i = 0; i < extent; ++i) next.push_back(p * extent + i);
        }
      }
      positions = std::move(next);
    }
    for (const int64_t p : positions) result.push_back(start + p);
    start += before.size(s);
  }
  if (!changed) return std::nullopt;
  return result;
}

Rewrite plan(const Graph& graph, const Edit& edit) {
  return std::visit([&](const Shrink& e) { return plan_shrink(graph, e); }, edit.what);
}

void apply(Graph& graph, const std::vector<Weights*>& weights, const Edit& edit) {
  Rewrite rewrite = plan(graph, edit);
  std::map<const Bank*, std::shared_ptr<Bank>> done;
  std::vector<std::unique_ptr<Weights::Prepared>> prepared;
  for (const Weights* w : weights) prepared.push_back(w->prepare(graph, rewrite, done));
  graph = std::move(rewrite.graph);
  for (size_t i = 0; i < weights.size(); ++i) weights[i]->commit(std::move(prepared[i]), graph);
}

void zero(const Graph& graph, Weights& weights, Axis axis, const Indices& positions) {
  const c10::NoGradGuard no_grad;
  if (positions.empty()) return;
  // What is dropped, as the change that would keep only it.
  const Rewrite dropped{graph, {}, {{axis, positions}}};
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (p.input[d]) continue;
      const auto at = dropped.gather(graph, p.shape[d]);
      if (!at) continue;
      at::Tensor t = weights[{static_cast<int32_t>(i)}];
      t.index_fill_(static_cast<int64_t>(d), at::tensor(*at, at::kLong).to(t.device()), p.removed);
    }
  }
}

std::string inexact_at(const Graph& graph, Axis axis) {
  for (const Node& n : graph.nodes()) {
    bool reads = false;
    for (const Edge e : n.inputs) {
      for (const Dim& d : graph[e].shape) reads = reads || d.reads(axis);
    }
    if (reads && (!n.op->preserves_zero() || n.op->reduces_over_width())) return n.name;
  }
  return {};
}

Indices indices_of(const std::vector<bool>& mask) {
  Indices result;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) result.push_back(static_cast<int64_t>(i));
  }
  return result;
}

Indices complement(const Indices& positions, int64_t size) {
  std::vector<bool> mask(static_cast<size_t>(size), true);
  for (const int64_t p : positions) mask[static_cast<size_t>(p)] = false;
  return indices_of(mask);
}

}  // namespace espalier
