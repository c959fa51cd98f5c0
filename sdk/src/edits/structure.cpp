// Changes of what is connected: views, lost inputs, blocks, choices.
#include <algorithm>
#include <iterator>
#include <map>

#include "edits/draft.h"
#include "espalier/operation.h"
#include "espalier/registry.h"

namespace espalier {

namespace {

Edge input_of(Draft& draft, int32_t node, int64_t input, const std::string& what) {
  const Node& n = draft.nodes()[static_cast<size_t>(node)];
  if (input < 0 || input >= static_cast<int64_t>(n.inputs.size())) {
    throw EditError(what + ": the node '" + n.name + "' has " + std::to_string(n.inputs.size()) +
                    " inputs, counted from 0; there is no input " + std::to_string(input));
  }
  return n.inputs[static_cast<size_t>(input)];
}

std::string sizes_of(const Graph& g, Edge e) {
  return "'" + g[e].name + "' " + to_string(g.sizes(g[e].shape));
}

// Whether a ReLU would leave it as it is.
bool never_negative(const Graph& g, Edge e) {
  if (g[e].producer < 0) return false;
  const Node& n = g.nodes()[static_cast<size_t>(g[e].producer)];
  const std::string type = n.op->type();
  if (type == "relu" || type == "relu6" || type == "sigmoid") return true;
  for (const char* keeps : {"max_pool", "avg_pool", "add", "concat", "dropout"}) {
    if (type == keeps) return std::ranges::all_of(n.inputs, [&](Edge i) { return never_negative(g, i); });
  }
  return false;
}

// A block as a sum of its input and of branches that can be made zero.
struct Residual {
  const Graph& g;
  const Block& block;
  Edge given;  // what the block is to read
  std::vector<bool> depends;
  std::vector<ParamId> zeros;  // which make the branches zero

  const Node* maker(Edge e) const {
    const bool within = std::ranges::find(block.nodes, g[e].producer) != block.nodes.end();
    return within ? &g.nodes()[static_cast<size_t>(g[e].producer)] : nullptr;
  }
  // Whether the edge is then what the block is given.
  bool gives_back(Edge e) {
    if (e == block.in) return true;
    const Node* n = maker(e);
    if (!n) return false;
    if (n->op->type() == "relu") return never_negative(g, given) && gives_back(n->inputs[0]);
    if (n->op->type() != "add") return false;
    for (size_t i = 0; i < n->inputs.size(); ++i) {
      const size_t before = zeros.size();
      bool back = gives_back(n->inputs[i]);
      for (size_t j = 0; j < n->inputs.size() && back; ++j) back = j == i || vanishes(n->inputs[j]);
      if (back) return true;
      zeros.resize(before);
    }
    return false;
  }
  // Whether the edge is then zero: what makes it ends in parameters that multiply all of it.
  bool vanishes(Edge e) {
    const Node* n = maker(e);
    if (!n) return false;
    const auto trainable = [&](ParamId p) { return g[p].role != Role::buffer; };
    if (n->op->scaling() == Operation::Scaling::absorbs) {
      std::ranges::copy_if(n->parameters, std::back_inserter(zeros), trainable);
      return true;
    }
    if (!n->op->preserves_zero() || std::ranges::any_of(n->parameters, trainable)) return false;
    return std::ranges::all_of(n->inputs, [&](Edge i) { return !depends[static_cast<size_t>(i.id)] || vanishes(i); });
  }
};

}  // namespace

Rewrite plan_change(const Graph& graph, const SplitOff& e) {
  Draft draft(graph);
  const std::string what = "cannot split the node '" + e.node + "' off";
  const int32_t node = draft.node(e.node);
  const Edge in = input_of(draft, node, e.input, what);
  // The dimension that is an axis as a whole, or else a product of axes (of heads and their dimensions).
  const Shape& shape = graph[in].shape;
  const auto is_whole = [](const Dim& d) { return d.whole().id >= 0; };
  const auto is_product = [](const Dim& d) {
    return d.segments.size() == 1 &&
           std::ranges::all_of(d.segments[0].factors, [](const Factor& f) { return f.axis.id >= 0; });
  };
  auto dim = std::find_if(shape.rbegin(), shape.rend(), is_whole);
  if (dim == shape.rend()) dim = std::find_if(shape.rbegin(), shape.rend(), is_product);
  if (dim == shape.rend())
    throw EditError(what + ": its input " + sizes_of(graph, in) +
                    " has no width that is one axis, or a product of axes");
  if (draft.is_output(in)) throw EditError(what + ": its input '" + graph[in].name + "' is an output of the network");
  const std::string name = e.view.empty() ? e.node + ".view" : e.view;
  draft.require_new(what, name);
  Indices all(static_cast<size_t>(graph.size(*dim)));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  const Axis own = draft.graph().add_axis(name, std::ssize(all));
  const Axis axis = dim->whole();
  if (axis.id >= 0) draft.comes_from(own, axis);
  const int32_t view = draft.graph().add_node(
      name, Registry::instance().create<Operation>(Value::map({{"use", "select"}, {"index", all}, {"drops", true}})),
      {in}, {own});
  const Edge out = draft.nodes()[static_cast<size_t>(view)].outputs.front();
  draft.nodes()[static_cast<size_t>(node)].inputs[static_cast<size_t>(e.input)] = out;
  // Its dimensions so far are the shared one's. A product has no one axis that the new one could come from.
  draft.reshape(out, *dim, Dim::of(own), axis.id < 0 ? &all : nullptr);
  return draft.finish(Rewrite::Effect::preserves);
}

Rewrite plan_change(const Graph& graph, const Disconnect& e) {
  Draft draft(graph);
  const std::string what = "cannot disconnect an input of the node '" + e.node + "'";
  const int32_t id = draft.node(e.node);
  const Edge gone = input_of(draft, id, e.input, what);
  const Node node = draft.nodes()[static_cast<size_t>(id)];
  const auto op = node.op->without_input(node, static_cast<size_t>(e.input));
  if (!op) throw EditError(what + ": an operation '" + node.op->type() + "' needs this input");
  const std::vector<bool> depends = depends_on_input(graph);
  const auto terms = std::ranges::count_if(node.inputs, [&](Edge i) { return depends[static_cast<size_t>(i.id)]; });
  if (terms < 2) throw EditError(what + ": it is the last, and the network would be cut");
  if (node.op->joins_inputs()) {
    // The segments of the input that goes, in the joined dimension.
    const Edge out = node.outputs.front();
    const size_t d = channel_dim(graph[out].shape);
    const Dim whole = graph[out].shape[d];
    size_t at = 0;
    int64_t start = 0;
    for (int64_t i = 0; i < e.input; ++i) {
      const Dim& before = graph[node.inputs[static_cast<size_t>(i)]].shape[d];
      at += before.segments.size();
      start += graph.size(before);
    }
    const Dim& its = graph[gone].shape[d];
    Dim rest = whole;
    const auto first = rest.segments.begin() + static_cast<std::ptrdiff_t>(at);
    rest.segments.erase(first, first + static_cast<std::ptrdiff_t>(its.segments.size()));
    Indices from;
    for (int64_t i = 0; i < graph.size(whole); ++i) {
      if (i < start || i >= start + graph.size(its)) from.push_back(i);
    }
    draft.reshape(out, whole, rest, &from);
  }
  Node& changed = draft.nodes()[static_cast<size_t>(id)];
  changed.op = op;
  changed.inputs.erase(changed.inputs.begin() + static_cast<std::ptrdiff_t>(e.input));
  return draft.finish(e.exact ? Rewrite::Effect::preserves : Rewrite::Effect::changes);
}

Rewrite plan_change(const Graph& graph, const DropBlock& e) {
  Draft draft(graph);
  const Block b = block(draft, graph, e.block);
  if (graph[b.in].shape != graph[b.out].shape) {
    throw EditError("cannot drop the block '" + e.block + "': its input " + sizes_of(graph, b.in) + " and its output " +
                    sizes_of(graph, b.out) + " do not share their widths");
  }
  draft.redirect(b.out, b.in);
  return draft.finish(e.exact ? Rewrite::Effect::preserves : Rewrite::Effect::changes);
}

Rewrite plan_change(const Graph& graph, const InsertBlock& e) {
  Draft draft(graph);
  const std::string what = "cannot insert the block '" + e.block + "'";
  if (e.init != "random" && e.init != "preserving")
    throw EditError(what + ": unknown init '" + e.init + "'" + suggestion(e.init, {"random", "preserving"}));
  const Block like = block(draft, graph, e.like);
  const bool is_node = std::ranges::find(graph.nodes(), e.after, &Node::name) != graph.nodes().end();
  const Edge behind = is_node ? draft.edge(e.after) : block(draft, graph, e.after).out;
  for (const Node& n : graph.nodes()) {
    if (e.block.empty() || n.name.starts_with(e.block + "."))
      throw EditError(what + ": there is a block of this name already");
  }
  if (graph[like.in].shape != graph[like.out].shape) {
    throw EditError(what + ": the input " + sizes_of(graph, like.in) + " and the output " + sizes_of(graph, like.out) +
                    " of the block '" + e.like + "' do not share their widths");
  }
  if (graph[like.in].shape != graph[behind].shape) {
    throw EditError(what + ": the block '" + e.like + "' works on " + sizes_of(graph, like.in) + ", behind '" +
                    e.after + "' there is " + sizes_of(graph, behind));
  }
  const auto within = [&](int32_t n) { return std::ranges::find(like.nodes, n) != like.nodes.end(); };
  const auto renamed = [&](const std::string& name) {
    return name.starts_with(e.like + ".") ? e.block + name.substr(e.like.size()) : e.block + "." + name;
  };
  // Axes that only this block has get doubles.
  std::vector<bool> inside(graph.axes().size(), false), outside(graph.axes().size(), false);
  const auto mark = [](std::vector<bool>& marks, const Shape& shape) {
    for (const Dim& d : shape) {
      for (const Segment& s : d.segments) {
        for (const Factor& f : s.factors) {
          if (f.axis.id >= 0) marks[static_cast<size_t>(f.axis.id)] = true;
        }
      }
    }
  };
  for (const EdgeInfo& edge : graph.edges()) mark(within(edge.producer) ? inside : outside, edge.shape);
  for (const Parameter& p : graph.parameters()) mark(within(p.node) ? inside : outside, p.shape);
  std::map<int32_t, Axis> doubles;
  for (size_t i = 0; i < graph.axes().size(); ++i) {
    if (inside[i] && !outside[i])
      doubles[static_cast<int32_t>(i)] = draft.graph().add_axis(renamed(graph.axes()[i].name), graph.axes()[i].size);
  }
  const auto doubled = [&](Shape shape) {
    for (Dim& d : shape) {
      for (Segment& s : d.segments) {
        for (Factor& f : s.factors) {
          if (const auto it = doubles.find(f.axis.id); it != doubles.end()) f.axis = it->second;
        }
      }
    }
    return shape;
  };

  if (draft.is_output(behind)) throw EditError(what + ": '" + graph[behind].name + "' is an output of the network");
  const std::vector<int32_t> readers = draft.readers(behind);
  Residual residual{graph, like, behind, depends_on_input(graph), {}};
  if (e.init == "preserving" && !residual.gives_back(like.out)) {
    throw EditError(what + ": the block '" + e.like +
                    "' cannot give back what it is given: it is no sum of its input and branches that a layer or an "
                    "affine batch norm ends");
  }
  std::map<int32_t, Edge> edges{{like.in.id, behind}};
  std::vector<std::string> zeros;
  for (const int32_t n : like.nodes) {
    const Node& node = graph.nodes()[static_cast<size_t>(n)];
    Node copy{renamed(node.name), node.op, {}, {}, {}};
    const auto id = static_cast<int32_t>(draft.nodes().size());
    for (const Edge in : node.inputs) {
      const auto it = edges.find(in.id);
      copy.inputs.push_back(it == edges.end() ? in : it->second);
    }
    for (const Edge out : node.outputs)
      copy.outputs.push_back(edges[out.id] =
                                 draft.graph().add_edge(renamed(graph[out].name), doubled(graph[out].shape), id));
    for (const ParamId p : node.parameters) {
      Parameter parameter = graph[p];
      parameter.name = renamed(parameter.name);
      if (std::ranges::find(residual.zeros, p) != residual.zeros.end()) zeros.push_back(parameter.name);
      parameter.shape = doubled(std::move(parameter.shape));
      parameter.node = id;
      copy.parameters.push_back(draft.graph().add_parameter(std::move(parameter)));
    }
    draft.nodes().push_back(std::move(copy));
  }
  const Edge out = edges.at(like.out.id);
  draft.redirect(behind, out, &readers);
  Rewrite r = draft.finish(e.init == "preserving" ? Rewrite::Effect::preserves : Rewrite::Effect::changes);
  r.fill.key = RandomKey(e.seed);
  for (const std::string& name : zeros) r.fill.zeros.push_back(r.graph.parameter(name));
  return r;
}

Rewrite plan_change(const Graph& graph, const Choose& e) {
  Draft draft(graph);
  const std::string what = "cannot choose a term of the node '" + e.node + "'";
  const int32_t id = draft.node(e.node);
  const Node node = draft.nodes()[static_cast<size_t>(id)];
  const Edge chosen = input_of(draft, id, e.input, what);
  if (!depends_on_input(graph)[static_cast<size_t>(chosen.id)])
    throw EditError(what + ": its input " + std::to_string(e.input) + " is the coefficients");
  if (graph[chosen].shape != graph[node.outputs.front()].shape ||
      !node.op->without_input(node, static_cast<size_t>(e.input)))
    throw EditError(what + ": an operation '" + node.op->type() + "' is no mixture");
  draft.redirect(node.outputs.front(), chosen);
  return draft.finish(Rewrite::Effect::changes);
}

}  // namespace espalier
