#include "edits/draft.h"

#include <algorithm>
#include <numeric>

#include "espalier/operation.h"
#include "espalier/value.h"

namespace espalier {

namespace {

template <class Items>
[[noreturn]] void unknown(const Items& items, const std::string& name, const char* what) {
  std::vector<std::string> names;
  for (const auto& i : items) names.push_back(i.name);
  throw EditError("the network has no " + std::string(what) + " '" + name + "'" + suggestion(name, names));
}

// `dim` with each of its segments that is one of `old`, times constants behind it (a flatten), replaced likewise,
// beginning at segment `at`; nothing where it is not made of all of old's segments in order. positions: the old
// position of each new one, from those of `now` in `old`.
bool substitute_at(const Graph& g, Dim& dim, const Dim& old, const Dim& now, size_t at, const Indices* from,
                   Indices& positions) {
  if (dim.segments.size() < at + old.segments.size()) return false;
  std::vector<Factor> behind;
  for (size_t i = 0; i < old.segments.size(); ++i) {
    const std::vector<Factor>& have = dim.segments[at + i].factors;
    const std::vector<Factor>& was = old.segments[i].factors;
    if (have.size() < was.size() || !std::equal(was.begin(), was.end(), have.begin())) return false;
    std::vector<Factor> rest(have.begin() + static_cast<std::ptrdiff_t>(was.size()), have.end());
    if (i > 0 && rest != behind) return false;
    behind = std::move(rest);
  }
  const auto first = dim.segments.begin() + static_cast<std::ptrdiff_t>(at);
  const auto last = first + static_cast<std::ptrdiff_t>(old.segments.size());
  std::vector<Segment> made(dim.segments.begin(), first);
  if (from) {
    const int64_t start = g.size(Dim{made}), inner = g.size(Segment{behind}), all = g.size(dim);
    positions.resize(static_cast<size_t>(start));
    std::iota(positions.begin(), positions.end(), 0);
    for (const int64_t f : *from) {
      for (int64_t i = 0; i < inner; ++i) positions.push_back(start + f * inner + i);
    }
    for (int64_t i = start + g.size(old) * inner; i < all; ++i) positions.push_back(i);
  }
  for (Segment s : now.segments) {
    s.factors.insert(s.factors.end(), behind.begin(), behind.end());
    made.push_back(std::move(s));
  }
  made.insert(made.end(), last, dim.segments.end());
  dim.segments = std::move(made);
  return true;
}

// The same at segment `where` alone, or (nullopt) wherever old's segments stand: patches that are merged hold them
// several times. Whether they stand anywhere.
bool substitute(const Graph& g, Dim& dim, const Dim& old, const Dim& now, std::optional<size_t> where,
                const Indices* from, Indices& positions) {
  bool found = false;
  for (size_t at = where.value_or(0); at < dim.segments.size();) {
    Indices step;
    const bool here = substitute_at(g, dim, old, now, at, from, step);
    if (here && found) {
      for (int64_t& i : step) i = positions[static_cast<size_t>(i)];
    }
    if (here) positions = std::move(step);
    found = found || here;
    if (where) break;
    at += here ? now.segments.size() : 1;
  }
  return found;
}

}  // namespace

int32_t Draft::node(const std::string& name) const {
  const auto& all = graph_.nodes();
  const auto it = std::ranges::find(all, name, &Node::name);
  if (it == all.end()) unknown(all, name, "node");
  return static_cast<int32_t>(it - all.begin());
}

Edge Draft::edge(const std::string& name) const {
  const auto& all = graph_.edges();
  const auto it = std::ranges::find(all, name, &EdgeInfo::name);
  if (it == all.end()) unknown(all, name, "edge");
  return {static_cast<int32_t>(it - all.begin())};
}

std::vector<int32_t> Draft::readers(Edge e) const {
  std::vector<int32_t> result;
  for (size_t n = 0; n < graph_.nodes().size(); ++n) {
    if (std::ranges::find(graph_.nodes()[n].inputs, e) != graph_.nodes()[n].inputs.end())
      result.push_back(static_cast<int32_t>(n));
  }
  return result;
}

void Draft::require_new(const std::string& what, const std::string& name) const {
  const bool is_node = std::ranges::find(graph_.nodes(), name, &Node::name) != graph_.nodes().end();
  if (is_node || std::ranges::find(graph_.edges(), name, &EdgeInfo::name) != graph_.edges().end())
    throw EditError(what + ": there is a node or an edge '" + name + "' already; choose another name");
}

bool Draft::is_output(Edge e) const {
  return std::ranges::find(graph_.outputs(), e, &Port::edge) != graph_.outputs().end();
}

void Draft::redirect(Edge old, Edge now, const std::vector<int32_t>* only) {
  for (size_t n = 0; n < nodes().size(); ++n) {
    const auto id = static_cast<int32_t>(n);
    if (only ? std::ranges::find(*only, id) == only->end() : edge(now).producer == id) continue;
    std::ranges::replace(nodes()[n].inputs, old, now);
  }
  if (only) return;
  for (Port& p : graph_.outputs_) {
    if (p.edge == old) p.edge = now;
  }
}

void Draft::reshape(Edge e, const Dim& old, const Dim& now, const Indices* from) {
  if (is_output(e)) throw EditError("'" + edge(e).name + "' is an output of the network, whose width must stay");
  std::ranges::replace(edge(e).shape, old, now);
  for (const int32_t reader : readers(e)) reshape_reader(reader, e, old, now, from);
}

bool Draft::reshape_parameter(ParamId p, size_t d, const Dim& old, const Dim& now, std::optional<size_t> where,
                              const Indices* from) {
  Indices positions;
  if (!substitute(graph_, parameters()[static_cast<size_t>(p.id)].shape[d], old, now, where, from, positions))
    return false;
  if (!from) return true;
  Indices& window = windows_[p][d];
  if (!window.empty()) {
    for (int64_t& i : positions) i = window[static_cast<size_t>(i)];
  }
  window = std::move(positions);
  return true;
}

void Draft::reshape_reader(int32_t reader, Edge e, const Dim& old, const Dim& now, const Indices* from) {
  const Node node = nodes()[static_cast<size_t>(reader)];
  const bool joins = node.op->joins_inputs();
  for (const Edge input : node.inputs) {
    if (joins || input == e || std::ranges::find(edge(input).shape, old) == edge(input).shape.end()) continue;
    // Free coefficients for it follow.
    const int32_t maker = edge(input).producer;
    if (maker >= 0 && nodes()[static_cast<size_t>(maker)].inputs.empty() && readers(input).size() == 1) {
      for (const ParamId p : nodes()[static_cast<size_t>(maker)].parameters) {
        for (size_t d = 0; d < graph_[p].shape.size(); ++d) reshape_parameter(p, d, old, now, std::nullopt, from);
      }
      std::ranges::replace(edge(input).shape, old, now);
      continue;
    }
    throw EditError("the node '" + node.name + "' needs inputs of one width, and only '" + edge(e).name +
                    "' would change, not '" + edge(input).name + "'");
  }
  // What the operation holds by position along its input: as if that were one axis.
  if (from) {
    Graph one = graph_;
    const Axis axis = one.add_axis("\n", graph_.size(old));
    std::ranges::replace(one.mutable_edges()[static_cast<size_t>(e.id)].shape, now, Dim::of(axis));
    if (auto op = node.op->follow(one, node, {{axis, *from}})) nodes()[static_cast<size_t>(reader)].op = std::move(op);
  }
  // A layer with columns for its input makes its output anew; others (a depthwise convolution, too) pass the width on.
  const auto reads_width = [&](const Parameter& p) {
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (p.input[d] && p.shape[d].has_axis()) return true;
    }
    return false;
  };
  const bool columns = std::ranges::any_of(node.parameters, [&](ParamId p) { return reads_width(graph_[p]); });
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] != e) continue;
    // Where several inputs stand side by side in one dimension, this one's segments begin at an offset.
    std::optional<size_t> where;
    if (joins) where = 0;
    for (size_t j = 0; joins && j < i; ++j) {
      for (const Dim& d : edge(node.inputs[j]).shape) *where += d.has_axis() ? d.segments.size() : 0;
    }
    bool found = false;
    for (const ParamId p : node.parameters) {
      for (size_t d = 0; d < graph_[p].shape.size(); ++d) {
        if (!columns || graph_[p].input[d]) found = reshape_parameter(p, d, old, now, where, from) || found;
      }
    }
    if (columns && !found)
      throw EditError("the node '" + node.name + "' (" + node.op->type() + ") cannot read '" + edge(e).name +
                      "' in another form");
    for (const Edge out : node.outputs) {
      for (const Dim& d : columns ? Shape() : Shape(edge(out).shape)) {
        Dim changed = d;
        Indices positions;
        if (substitute(graph_, changed, old, now, where, from, positions))
          reshape(out, d, changed, from ? &positions : nullptr);
      }
    }
    if (!joins) break;
  }
}

Rewrite Draft::finish(Rewrite::Effect effect) {
  // In order: a node stands just before the first that needs it, otherwise where it stood.
  std::vector<int32_t> order;
  std::vector<int> state(nodes().size(), 0);
  const auto visit = [&](auto&& self, int32_t n) -> void {
    int& s = state[static_cast<size_t>(n)];
    if (s == 2) return;
    if (s == 1)
      throw EditError("the edit would make a cycle through the node '" + nodes()[static_cast<size_t>(n)].name + "'");
    s = 1;
    for (const Edge e : nodes()[static_cast<size_t>(n)].inputs) {
      if (edge(e).producer >= 0) self(self, edge(e).producer);
    }
    s = 2;
    order.push_back(n);
  };
  for (size_t n = 0; n < nodes().size(); ++n) visit(visit, static_cast<int32_t>(n));

  // What the outputs need.
  std::vector<bool> needed(edges().size(), false);
  for (const Port& p : graph_.outputs()) needed[static_cast<size_t>(p.edge.id)] = true;
  std::vector<bool> alive(nodes().size(), false);
  for (size_t i = order.size(); i-- > 0;) {
    const Node& n = nodes()[static_cast<size_t>(order[i])];
    const bool lives = std::ranges::any_of(n.outputs, [&](Edge e) { return needed[static_cast<size_t>(e.id)]; });
    alive[static_cast<size_t>(order[i])] = lives;
    if (!lives) continue;
    for (const Edge e : n.inputs) needed[static_cast<size_t>(e.id)] = true;
    for (const Edge e : n.outputs) needed[static_cast<size_t>(e.id)] = true;
  }
  for (const Port& p : graph_.inputs()) needed[static_cast<size_t>(p.edge.id)] = true;
  std::erase_if(order, [&](int32_t n) { return !alive[static_cast<size_t>(n)]; });

  std::vector<int32_t> node_now(nodes().size(), -1), edge_now(edges().size(), -1),
      parameter_now(parameters().size(), -1), axis_now(axes().size(), -1);
  for (size_t i = 0; i < order.size(); ++i) node_now[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);

  Rewrite r{.graph = {}, .origin = {}, .axis_origin = {}, .effect = effect};
  std::vector<bool> used(axes().size(), false);
  const auto mark = [&](const Shape& shape) {
    for (const Dim& d : shape) {
      for (const Segment& s : d.segments) {
        for (const Factor& f : s.factors) {
          if (f.axis.id >= 0) used[static_cast<size_t>(f.axis.id)] = true;
        }
      }
    }
  };
  for (size_t i = 0; i < edges().size(); ++i) {
    if (needed[i]) mark(edges()[i].shape);
  }
  for (const Parameter& p : parameters()) {
    if (node_now[static_cast<size_t>(p.node)] >= 0) mark(p.shape);
  }
  for (size_t i = 0; i < axes().size(); ++i) {
    if (!used[i]) continue;
    axis_now[i] = static_cast<int32_t>(r.graph.axes_.size());
    r.graph.axes_.push_back(axes()[i]);
    const Axis self{static_cast<int32_t>(i)};
    const auto from = std::ranges::find(origins_, self, &std::pair<Axis, Axis>::first);
    const Axis origin = from == origins_.end() ? self : from->second;
    r.axis_origin.push_back(static_cast<size_t>(origin.id) < before_.axes().size() ? origin : Axis{});
  }
  const auto renumbered = [&](Shape shape) {
    for (Dim& d : shape) {
      for (Segment& s : d.segments) {
        for (Factor& f : s.factors) {
          if (f.axis.id >= 0) f.axis.id = axis_now[static_cast<size_t>(f.axis.id)];
        }
      }
    }
    return shape;
  };
  for (size_t i = 0; i < edges().size(); ++i) {
    if (!needed[i]) continue;
    edge_now[i] = static_cast<int32_t>(r.graph.edges_.size());
    const EdgeInfo& e = edges()[i];
    r.graph.edges_.push_back(
        {e.name, renumbered(e.shape), e.producer < 0 ? -1 : node_now[static_cast<size_t>(e.producer)]});
  }
  for (size_t i = 0; i < parameters().size(); ++i) {
    Parameter p = parameters()[i];
    p.node = node_now[static_cast<size_t>(p.node)];
    if (p.node < 0) continue;
    p.shape = renumbered(std::move(p.shape));
    parameter_now[i] = static_cast<int32_t>(r.graph.parameters_.size());
    r.graph.parameters_.push_back(std::move(p));
    r.origin.push_back({i < before_.parameters().size() ? static_cast<int32_t>(i) : -1});
    if (const auto it = windows_.find({static_cast<int32_t>(i)}); it != windows_.end())
      r.windows[{parameter_now[i]}] = it->second;
  }
  for (const int32_t n : order) {
    Node node = nodes()[static_cast<size_t>(n)];
    for (Edge& e : node.inputs) e.id = edge_now[static_cast<size_t>(e.id)];
    for (Edge& e : node.outputs) e.id = edge_now[static_cast<size_t>(e.id)];
    for (ParamId& p : node.parameters) p.id = parameter_now[static_cast<size_t>(p.id)];
    r.graph.nodes_.push_back(std::move(node));
  }
  for (const auto& [from, to] : {std::pair{&graph_.inputs_, &r.graph.inputs_}, {&graph_.outputs_, &r.graph.outputs_}}) {
    for (const Port& p : *from) to->push_back({p.name, {edge_now[static_cast<size_t>(p.edge.id)]}});
  }
  return r;
}

std::vector<bool> depends_on_input(const Graph& graph) {
  std::vector<bool> depends(graph.edges().size(), false);
  for (const Port& p : graph.inputs()) depends[static_cast<size_t>(p.edge.id)] = true;
  for (const Node& n : graph.nodes()) {
    const bool any = std::ranges::any_of(n.inputs, [&](Edge e) { return depends[static_cast<size_t>(e.id)]; });
    for (const Edge e : n.outputs) depends[static_cast<size_t>(e.id)] = any;
  }
  return depends;
}

Block block(const Draft& draft, const Graph& graph, const std::string& name) {
  Block b;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (graph.nodes()[n].name.starts_with(name + ".")) b.nodes.push_back(static_cast<int32_t>(n));
  }
  if (b.nodes.empty())
    throw EditError("the network has no block '" + name + "': no node's name begins with '" + name + ".'");
  const auto within = [&](int32_t n) { return std::ranges::find(b.nodes, n) != b.nodes.end(); };
  const std::vector<bool> depends = depends_on_input(graph);
  const auto one = [&](Edge& have, Edge e, const char* what) {
    if (have.id >= 0 && have != e)
      throw EditError("the block '" + name + "' has several " + what + " ('" + graph[have].name + "', '" +
                      graph[e].name + "')");
    have = e;
  };
  for (const int32_t n : b.nodes) {
    const Node& node = graph.nodes()[static_cast<size_t>(n)];
    for (const Edge e : node.inputs) {
      if (!within(graph[e].producer) && depends[static_cast<size_t>(e.id)]) one(b.in, e, "inputs");
    }
    for (const Edge e : node.outputs) {
      const std::vector<int32_t> readers = draft.readers(e);
      if (draft.is_output(e) || !std::ranges::all_of(readers, within)) one(b.out, e, "outputs");
    }
  }
  if (b.in.id < 0 || b.out.id < 0)
    throw EditError("the block '" + name + "' has no " + (b.in.id < 0 ? "input" : "output"));
  return b;
}

}  // namespace espalier
