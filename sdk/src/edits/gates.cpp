// Coefficients into and out of a network.
#include <algorithm>
#include <memory>
#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "edits/draft.h"
#include "espalier/execute.h"
#include "espalier/mixture.h"
#include "espalier/operation.h"
#include "espalier/registry.h"
#include "operations/coefficients.h"

namespace espalier {

namespace {

// Parameters to be multiplied, along one dimension, by coefficients laid out as that dimension.
struct Multiply {
  ParamId parameter;
  size_t dimension;
};

// How many inputs of nodes read it.
int64_t uses(const Graph& g, Edge e) {
  int64_t n = 0;
  for (const Node& node : g.nodes()) n += std::ranges::count(node.inputs, e);
  return n;
}

// Into what makes the edge: the parameters of the nearest node before that absorbs a factor on `dim` of its output.
// nullopt: there is none, or others read it too.
std::optional<std::vector<Multiply>> before(const Draft& draft, const Graph& g, Edge e, const Dim& coefficient) {
  while (true) {
    if (uses(g, e) != 1 || draft.is_output(e) || g[e].producer < 0) return std::nullopt;
    const Node& node = g.nodes()[static_cast<size_t>(g[e].producer)];
    if (node.op->scaling() == Operation::Scaling::passes && node.inputs.size() == 1) {
      e = node.inputs.front();
      continue;
    }
    if (node.op->scaling() != Operation::Scaling::absorbs) return std::nullopt;
    std::vector<Multiply> all;
    for (const ParamId p : node.parameters) {
      if (g[p].role == Role::buffer) continue;
      bool found = coefficient.segments.empty();
      for (size_t d = 0; d < g[p].shape.size() && !found; ++d) {
        if (g[p].input[d] || !spreads(g, coefficient, g[p].shape[d])) continue;
        all.push_back({p, d});
        found = true;
      }
      if (!found) return std::nullopt;
      if (coefficient.segments.empty()) all.push_back({p, 0});
    }
    if (all.empty()) return std::nullopt;
    return all;
  }
}

// Into what reads the edge: all of its readers must have columns for it.
std::optional<std::vector<Multiply>> behind(const Draft& draft, const Graph& g, Edge e, const Dim& coefficient) {
  const std::vector<int32_t> readers = draft.readers(e);
  if (readers.empty() || draft.is_output(e)) return std::nullopt;
  std::vector<Multiply> all;
  for (const int32_t r : readers) {
    const Node& node = g.nodes()[static_cast<size_t>(r)];
    if (node.op->scaling() == Operation::Scaling::passes && node.inputs.size() == 1 && node.outputs.size() == 1) {
      const auto further = behind(draft, g, node.outputs.front(), coefficient);
      if (!further) return std::nullopt;
      all.insert(all.end(), further->begin(), further->end());
      continue;
    }
    if (node.op->scaling() != Operation::Scaling::absorbs) return std::nullopt;
    bool found = false;
    for (const ParamId p : node.parameters) {
      // Filters that read a channel of their own each (depthwise), or columns.
      const std::vector<bool>& input = g[p].input;
      bool width = false;
      for (size_t d = 0; d < input.size(); ++d) width = width || (input[d] && g[p].shape[d].has_axis());
      const bool own = !width && std::ranges::find(input, true) != input.end();
      for (size_t d = 0; d < input.size(); ++d) {
        if (input[d] == own || !spreads(g, coefficient, g[p].shape[d])) continue;
        all.push_back({p, d});
        found = true;
      }
    }
    if (!found) return std::nullopt;
  }
  return all;
}

// The nodes of these names, each of which must read the edge; none of an empty list.
std::vector<int32_t> readers_named(const Draft& draft, Edge edge, const std::vector<std::string>& names,
                                   const std::string& what) {
  std::vector<int32_t> readers;
  const std::vector<int32_t> all = draft.readers(edge);
  for (const std::string& name : names) {
    readers.push_back(draft.node(name));
    if (std::ranges::find(all, readers.back()) == all.end())
      throw EditError(what + ": the node '" + name + "' does not read an edge of this name");
  }
  return readers;
}

ParamId in(const Graph& after, const Graph& before, ParamId p) {
  return after.parameter(before[p].name);
}

}  // namespace

Rewrite plan_change(const Graph& graph, const InsertGate& e) {
  Draft draft(graph);
  const std::string what = "cannot insert the gate '" + e.gate + "'";
  if (e.gate.empty()) throw EditError("a gate needs a name");
  draft.require_new(what, e.gate);
  draft.require_new(what, e.gate + ".coefficient");
  if (e.role != "weight" && e.role != "architecture")
    throw EditError(what + ": unknown role '" + e.role + "'" + suggestion(e.role, {"weight", "architecture"}));
  const Edge edge = draft.edge(e.edge);
  const Shape shape = graph[edge].shape;
  // Along which dimension: the one that reads the axis, or the channels.
  std::optional<size_t> along;
  Dim dim;
  if (e.axis.empty()) {
    for (size_t d = 0; d < shape.size() && !along; ++d) {
      for (const Segment& s : shape[d].segments) {
        if (std::ranges::any_of(s.factors, [](const Factor& f) { return f.axis.id >= 0; })) along = d;
      }
    }
    if (!along) throw EditError(what + ": '" + e.edge + "' has no width");
    dim = shape[*along];
  } else {
    const Axis axis = graph.axis(e.axis);
    for (size_t d = 0; d < shape.size() && !along; ++d) {
      if (spreads(graph, Dim::of(axis), shape[d])) along = d;
    }
    if (!along) throw EditError(what + ": '" + e.edge + "' has no width '" + e.axis + "'");
    dim = Dim::of(axis);
  }
  const std::vector<int32_t> readers = readers_named(draft, edge, e.readers, what);

  const auto coefficient = static_cast<int32_t>(draft.nodes().size());
  const std::string name = e.gate + ".coefficient";
  const Edge value = draft.graph().add_edge(name, {dim}, coefficient);
  const ParamId p = draft.graph().add_parameter({.name = name + ".value",
                                                 .kind = "gate",
                                                 .role = e.role == "weight" ? Role::weight : Role::architecture,
                                                 .shape = {dim},
                                                 .input = {false},
                                                 .init = {Initializer::Kind::constant, e.initial},
                                                 .removed = 0,
                                                 .node = coefficient});
  draft.nodes().push_back({name,
                           Registry::instance().create<Operation>(
                               Value::map({{"use", "coefficient"}, {"initial", e.initial}, {"role", e.role}})),
                           {},
                           {value},
                           {p}});
  const auto gate = static_cast<int32_t>(draft.nodes().size());
  const Edge out = draft.graph().add_edge(e.gate, shape, gate);
  draft.nodes().push_back(
      {e.gate,
       Registry::instance().create<Operation>(Value::map({{"use", "gate"}, {"dim", static_cast<int64_t>(*along)}})),
       {edge, value},
       {out},
       {}});
  draft.redirect(edge, out, readers.empty() ? nullptr : &readers);
  return draft.finish(e.initial == 1 ? Rewrite::Effect::preserves : Rewrite::Effect::changes);
}

Rewrite plan_change(const Graph& graph, const InsertGates& e) {
  Draft draft(graph);
  const std::string what = "cannot insert gates with the coefficients '" + e.coefficients + "'";
  if (e.coefficients.empty()) throw EditError("the coefficients of gates need a name");
  if (e.places.empty()) throw EditError(what + ": there is no place for them");
  draft.require_new(what, e.coefficients);
  const Axis components = draft.graph().add_axis(e.coefficients, e.count);
  const int32_t maker =
      draft.graph().add_node(e.coefficients, Registry::instance().create<Operation>(e.operation), {}, {components});
  const Edge value = draft.nodes()[static_cast<size_t>(maker)].outputs.front();
  if (draft.edge(value).shape != Shape{Dim::of(components)})
    throw EditError(what + ": its operation does not give one number for each of " + std::to_string(e.count));
  for (const InsertGates::Place& place : e.places) {
    draft.require_new(what, place.gate);
    const Edge edge = draft.edge(place.edge);
    const Shape shape = draft.edge(edge).shape;
    const std::vector<int32_t> readers = readers_named(draft, edge, place.readers, what + ": '" + place.edge + "'");
    const int32_t gate = draft.graph().add_node(
        place.gate,
        Registry::instance().create<Operation>(
            Value::map({{"use", "gate"}, {"dim", static_cast<int64_t>(channel_dim(shape))}, {"index", place.index}})),
        {edge, value});
    draft.redirect(edge, draft.nodes()[static_cast<size_t>(gate)].outputs.front(),
                   readers.empty() ? nullptr : &readers);
  }
  return draft.finish(Rewrite::Effect::changes);
}

Rewrite plan_change(const Graph& graph, const Substitute& e) {
  Draft draft(graph);
  const std::string what = "cannot substitute '" + e.node + "' for '" + e.edge + "'";
  draft.require_new(what, e.node);
  const Edge edge = draft.edge(e.edge);
  const std::vector<int32_t> readers = readers_named(draft, edge, e.readers, what);
  const int32_t node = draft.graph().add_node(e.node, Registry::instance().create<Operation>(e.operation), {});
  const Node made = draft.nodes()[static_cast<size_t>(node)];
  const Edge out = made.outputs.front();
  if (draft.edge(out).shape != draft.edge(edge).shape) {
    throw EditError(what + ": it gives " + to_string(graph.sizes(draft.edge(out).shape)) + " and not " +
                    to_string(graph.sizes(draft.edge(edge).shape)));
  }
  const auto* holds = dynamic_cast<const HoldsValue*>(made.op.get());
  if (e.keep_values && (!holds || made.parameters.size() != 1))
    throw EditError(what + ": an operation '" + made.op->type() + "' holds no values");
  if (e.keep_values && depends_on_input(graph)[static_cast<size_t>(edge.id)])
    throw EditError(what + ": its values depend on the sample");
  draft.redirect(edge, out, readers.empty() ? nullptr : &readers);
  Rewrite r = draft.finish(e.keep_values ? Rewrite::Effect::preserves : Rewrite::Effect::changes);
  if (!e.keep_values) return r;
  r.transform = [edge, op = made.op, parameter = r.graph.parameter(draft.graph()[made.parameters.front()].name)](
                    const Graph& was, const Weights& old, const Rewrite::Now& now) {
    const c10::NoGradGuard no_grad;
    at::Tensor held = now(parameter);
    if (!held.defined()) return;
    const at::Tensor value = coefficient_values(was, old, edge);
    held.copy_(dynamic_cast<const HoldsValue&>(*op).held(value));
  };
  return r;
}

Rewrite plan_change(const Graph& graph, const RemoveGate& e) {
  Draft draft(graph);
  const Node& node = graph.nodes()[static_cast<size_t>(draft.node(e.gate))];
  if (node.op->type() != "gate")
    throw EditError("cannot remove the gate '" + e.gate + "': it is a '" + node.op->type() + "', no gate");
  draft.redirect(node.outputs.front(), node.inputs.front());
  return draft.finish(Rewrite::Effect::changes);
}

Rewrite plan_change(const Graph& graph, const FoldGate& e) {
  Draft draft(graph);
  const int32_t id = draft.node(e.gate);
  const Node node = graph.nodes()[static_cast<size_t>(id)];
  const std::string what = "cannot fold '" + e.gate + "': ";
  const std::string why =
      "neither what makes its input, which it alone must read, nor all that reads its output is a layer or an affine "
      "batch norm without a nonlinearity between; the gate stays";
  if ((node.op->type() == "gate" || dynamic_cast<const Mixture*>(node.op.get())) &&
      depends_on_input(graph)[static_cast<size_t>(node.inputs.back().id)])
    throw EditError(what + "its coefficients depend on the sample, so no parameters can hold them; the gate stays");
  // What is multiplied by which coefficients.
  struct Fold {
    std::vector<Multiply> into;
    Edge coefficients;
    Dim dim;                 // of them, or of what an index makes of them
    int64_t component = -1;  // one of them, for all of the parameter
    Indices index{};         // of each position of `dim`, its coefficient; empty: each has its own
  };
  std::vector<Fold> folds;
  if (node.op->type() == "gate") {
    const auto& gate = dynamic_cast<const ChannelGate&>(*node.op);
    const Dim dim =
        gate.index().empty() ? graph[node.inputs[1]].shape.front() : graph[node.inputs[0]].shape[gate.dimension()];
    auto into = before(draft, graph, node.inputs[0], dim);
    if (!into) into = behind(draft, graph, node.outputs[0], dim);
    if (!into) throw EditError(what + why);
    folds.push_back({*into, node.inputs[1], dim, -1, gate.index()});
    draft.redirect(node.outputs[0], node.inputs[0]);
  } else if (const auto* mixture = dynamic_cast<const Mixture*>(node.op.get())) {
    const Indices components = mixture->components(graph, node);
    for (size_t i = 0; i + 1 < node.inputs.size(); ++i) {
      const auto into = before(draft, graph, node.inputs[i], Dim{});
      if (!into) {
        throw EditError(what + "its input '" + graph[node.inputs[i]].name +
                        "' does not come, by itself and without a nonlinearity, from a layer or an affine batch norm; "
                        "the mixture stays");
      }
      folds.push_back({*into, node.inputs.back(), {}, components[i]});
    }
    Node& sum = draft.nodes()[static_cast<size_t>(id)];
    sum.op = Registry::instance().create<Operation>(Value::map({{"use", "add"}}));
    sum.inputs.pop_back();
    if (sum.inputs.size() == 1) draft.redirect(node.outputs[0], node.inputs[0]);
  } else {
    throw EditError(what + "it is a '" + node.op->type() + "', neither a gate nor a mixture");
  }
  Rewrite r = draft.finish(Rewrite::Effect::preserves);
  r.transform = [folds, after = r.graph](const Graph& was, const Weights& old, const Rewrite::Now& now) {
    const c10::NoGradGuard no_grad;
    for (const Fold& f : folds) {
      at::Tensor values = coefficient_values(was, old, f.coefficients).flatten();
      if (!f.index.empty()) values = values.index_select(0, at::tensor(f.index, at::kLong));
      for (const Multiply& m : f.into) {
        at::Tensor parameter = now(in(after, was, m.parameter));
        if (!parameter.defined()) continue;
        if (f.component >= 0) {
          parameter.mul_(values[f.component]);
          continue;
        }
        std::vector<int64_t> sizes(static_cast<size_t>(parameter.dim()), 1);
        sizes[m.dimension] = -1;
        const Dim& along = was[m.parameter].shape[m.dimension];
        parameter.mul_(spread(was, values.unsqueeze(0), f.dim, along).reshape(sizes));
      }
    }
  };
  return r;
}

}  // namespace espalier
