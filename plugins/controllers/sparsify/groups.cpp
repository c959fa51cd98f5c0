#include "groups.h"

#include <algorithm>
#include <optional>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fnmatch.h>

#include <espalier/blocks.h>
#include <espalier/groups.h>
#include <espalier/operation.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>

namespace espalier {

namespace {

const Node& node_at(const Graph& graph, int32_t n) {
  return graph.nodes()[static_cast<size_t>(n)];
}

const Node* maker_of(const Graph& graph, Edge e) {
  return graph[e].producer < 0 ? nullptr : &node_at(graph, graph[e].producer);
}

bool is(const Node& n, const char* type) {
  return n.op->type() == type;
}

// Gates of components say by an index which coefficient a channel has.
Indices index_list(const Node& n) {
  Indices index;
  const Value options = n.op->options();
  for (const Value& i : options.at("index").as_list()) index.push_back(i.as_int());
  return index;
}
bool is_component_gate(const Node& n) {
  return is(n, "gate") && n.name.ends_with(component_suffix);
}

// Operations that act on each number by itself.
bool is_activation(const Node& n) {
  static const std::set<std::string> types{"relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "dropout"};
  return types.contains(n.op->type());
}

bool is_layer(const Graph& graph, const Node& n) {
  return !n.parameters.empty() && graph[n.parameters.front()].kind == "weight";
}

std::string scope_of(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

bool selected(const std::vector<std::string>& on, const std::string& name) {
  return on.empty() || std::ranges::any_of(on, [&](const std::string& p) { return matches(p, name); });
}

bool is_trainable_weight(const Parameter& p) {
  return p.role == Role::weight;
}

Indices repeated(int64_t component, int64_t count) {
  return Indices(static_cast<size_t>(count), component);
}

int64_t channels_of(const Graph& graph, Edge e) {
  const Shape& shape = graph[e].shape;
  return graph.size(shape[channel_dim(shape)]);
}

// ---- blocks ----

// The nodes within a scope that an edge is computed by.
std::set<int32_t> ancestors(const Graph& graph, Edge e, const std::string& scope) {
  std::set<int32_t> all;
  const auto visit = [&](auto&& self, Edge edge) -> void {
    const int32_t n = graph[edge].producer;
    if (n < 0 || !node_at(graph, n).name.starts_with(scope + ".") || !all.insert(n).second) return;
    for (const Edge in : node_at(graph, n).inputs) self(self, in);
  };
  visit(visit, e);
  return all;
}

struct Residual {
  int32_t sum = -1;
  size_t branch = 0;  // which input of the sum
  bool identity = false;
  std::set<int32_t> nodes;  // that the branch alone needs
};

// The sum of a block as its shortcut and its branch; nothing where it is not such a sum.
std::optional<Residual> residual(const Graph& graph, const std::string& block) {
  Residual r;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (scope_of(node.name) == block && is(node, "add") && node.inputs.size() == 2) r.sum = static_cast<int32_t>(n);
  }
  if (r.sum < 0) return std::nullopt;
  const Node& sum = node_at(graph, r.sum);
  std::vector<std::set<int32_t>> behind;
  std::vector<int64_t> layers;
  for (const Edge e : sum.inputs) {
    behind.push_back(ancestors(graph, e, block));
    layers.push_back(
        std::ranges::count_if(behind.back(), [&](int32_t n) { return is_layer(graph, node_at(graph, n)); }));
  }
  if (layers[0] == layers[1]) return std::nullopt;
  r.branch = layers[0] > layers[1] ? 0 : 1;
  r.identity = behind[1 - r.branch].empty();
  for (const int32_t n : behind[r.branch]) {
    if (!behind[1 - r.branch].contains(n)) r.nodes.insert(n);
  }
  return r;
}

// Whether the block can go as a whole: it then hands on what it is given, since its input is not negative where a ReLU
// ends it.
bool hands_on(const Graph& graph, const std::string& block, const Residual& r) {
  if (!r.identity) return false;
  const Node& sum = node_at(graph, r.sum);
  const Node* reader = sole_reader(graph, sum.outputs.front());
  if (!reader || !reader->name.starts_with(block + ".")) return true;
  const Node* before = maker_of(graph, sum.inputs[1 - r.branch]);
  return is(*reader, "relu") && before && is(*before, "relu");
}

std::vector<ComponentGroup> stages(const Graph& graph, const GroupOptions& o) {
  std::vector<ComponentGroup> groups;
  const std::set<std::string> blocks = residual_blocks(graph);
  std::set<std::string> seen;
  for (const Node& n : graph.nodes()) {
    const std::string block = scope_of(n.name);
    if (!is(n, "add") || !blocks.contains(block) || !seen.insert(block).second) continue;
    const auto r = residual(graph, block);
    if (!r || (!o.first_block && !r->identity)) continue;
    const std::string stage = scope_of(block).empty() ? "network" : scope_of(block);
    if (!selected(o.on, stage)) continue;
    if (groups.empty() || groups.back().name != stage)
      groups.push_back({.name = stage, .components = {}, .needs_one = false});
    ComponentGroup& g = groups.back();
    const Node& sum = node_at(graph, r->sum);
    const Edge branch = sum.inputs[r->branch];
    GroupComponent c{.name = block};
    for (const int32_t at : r->nodes) {
      for (const ParamId p : node_at(graph, at).parameters) {
        if (is_trainable_weight(graph[p])) c.parts.push_back({p});
      }
    }
    const Node* maker = maker_of(graph, branch);
    if (maker && is_component_gate(*maker)) {
      c.gate = maker->name;
      c.coefficient = index_list(*maker).front();
    } else {
      g.places.push_back({.gate = block + component_suffix,
                          .edge = graph[branch].name,
                          .readers = {sum.name},
                          .index = repeated(static_cast<int64_t>(g.components.size()), channels_of(graph, branch))});
    }
    if (hands_on(graph, block, *r)) {
      g.without.push_back({DropBlock{.block = block}});
    } else {
      g.without.push_back({Disconnect{.node = sum.name, .input = static_cast<int64_t>(r->branch)}});
    }
    g.components.push_back(std::move(c));
  }
  return groups;
}

// ---- places behind which a width is read by one layer ----

// Behind an edge as long as each channel is by itself and one node reads it: batch norm, activations, gates.
struct Walk {
  Edge end;                          // the last edge
  const Node* reader = nullptr;      // the layer that reads it; null: something else does
  const Node* gate = nullptr;        // the gate of components on the way
  std::vector<const Node*> between;  // the nodes on the way
};
Walk walk(const Graph& graph, Edge e) {
  Walk w{.end = e, .between = {}};
  for (const Node* next = sole_reader(graph, e); next; next = sole_reader(graph, w.end)) {
    if (is_layer(graph, *next)) {
      w.reader = next;
      break;
    }
    if (!is(*next, "batch_norm") && !is_activation(*next) && !is(*next, "gate")) break;
    if (is_component_gate(*next)) w.gate = next;
    w.between.push_back(next);
    w.end = next->outputs.front();
  }
  return w;
}

// ---- branches ----

std::vector<ComponentGroup> branches(const Graph& graph, const GroupOptions& o) {
  std::vector<ComponentGroup> groups;
  for (const Node& n : graph.nodes()) {
    const Value options = n.op->options();
    const Value* grouped = is(n, "conv2d") ? options.find("grouped") : nullptr;
    if (!grouped || !grouped->as_bool() || !selected(o.on, n.name)) continue;
    const std::vector<Axis> axes =
        filter_axes(graph, Selector(graph[n.parameters.front()].name.c_str()), FilterUnit::whole_groups);
    if (axes.size() != 1) continue;
    const Walk w = walk(graph, n.outputs.front());
    if (!w.reader) continue;
    ComponentGroup g{.name = n.name, .components = {}, .axis = axes.front()};
    const Shape& shape = graph[w.end].shape;
    const Indices of_channel = axis_positions(graph, shape[channel_dim(shape)], g.axis);
    const Indices index = w.gate ? index_list(*w.gate) : of_channel;
    for (int64_t i = 0; i < graph[g.axis].size; ++i) {
      GroupComponent c{.name = n.name + "[" + std::to_string(i) + "]"};
      for (size_t p = 0; p < graph.parameters().size(); ++p) {
        const Parameter& parameter = graph.parameters()[p];
        if (!is_trainable_weight(parameter)) continue;
        for (size_t d = 0; d < parameter.shape.size(); ++d) {
          Indices at = positions_of(graph, parameter.shape[d], g.axis, {i});
          if (!at.empty()) c.parts.push_back({{static_cast<int32_t>(p)}, static_cast<int64_t>(d), std::move(at)});
        }
      }
      if (w.gate) {
        c.gate = w.gate->name;
        const auto first = std::ranges::find(of_channel, i) - of_channel.begin();
        c.coefficient = index[static_cast<size_t>(first)];
      }
      g.components.push_back(std::move(c));
    }
    if (!w.gate) {
      g.places.push_back({.gate = n.name + component_suffix,
                          .edge = graph[w.end].name,
                          .readers = {w.reader->name},
                          .index = of_channel});
    }
    groups.push_back(std::move(g));
  }
  return groups;
}

// ---- connections ----

// Whether what this scope computes is concatenated elsewhere, at the same size: a layer that adds its features to those
// that there are.
bool adds_features(const Graph& graph, const std::string& scope, const Shape& shape) {
  for (const Node& n : graph.nodes()) {
    if (!n.op->joins_inputs() || n.name.starts_with(scope + ".")) continue;
    for (const Edge e : n.inputs) {
      const Node* maker = maker_of(graph, e);
      if (!maker || !maker->name.starts_with(scope + ".")) continue;
      Shape its = graph[e].shape;
      const size_t d = channel_dim(its);
      its[d] = shape[d];
      if (its == shape) return true;
    }
  }
  return false;
}

std::vector<ComponentGroup> connections(const Graph& graph, const GroupOptions& o) {
  std::vector<ComponentGroup> groups;
  for (const Node& n : graph.nodes()) {
    const std::string scope = scope_of(n.name);
    if (!n.op->joins_inputs() || scope.empty() || !selected(o.on, scope)) continue;
    const Walk w = walk(graph, n.outputs.front());
    if (!w.reader || !adds_features(graph, scope, graph[n.outputs.front()].shape)) continue;
    const Shape& shape = graph[w.end].shape;
    const size_t d = channel_dim(shape);
    ComponentGroup g{.name = scope, .components = {}};
    const Indices index = w.gate ? index_list(*w.gate) : Indices();
    InsertGates::Place place{
        .gate = scope + component_suffix, .edge = graph[w.end].name, .readers = {w.reader->name}, .index = {}};
    int64_t start = 0;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const int64_t count = channels_of(graph, n.inputs[i]);
      GroupComponent c{.name = graph[n.inputs[i]].name};
      Indices at;
      for (int64_t k = 0; k < count; ++k) at.push_back(start + k);
      const auto add_parts = [&](const Node& node, bool columns) {
        for (const ParamId p : node.parameters) {
          if (!is_trainable_weight(graph[p])) continue;
          for (size_t k = 0; k < graph[p].shape.size(); ++k) {
            if (graph[p].input[k] == columns && graph[p].shape[k] == shape[d])
              c.parts.push_back({p, static_cast<int64_t>(k), at});
          }
        }
      };
      for (const Node* between : w.between) {
        if (between != w.gate) add_parts(*between, false);
      }
      add_parts(*w.reader, true);
      if (w.gate) {
        c.gate = w.gate->name;
        c.coefficient = index[static_cast<size_t>(start)];
      } else {
        const Indices of_input = repeated(static_cast<int64_t>(i), count);
        place.index.insert(place.index.end(), of_input.begin(), of_input.end());
      }
      g.components.push_back(std::move(c));
      g.without.push_back({Disconnect{.node = n.name, .input = static_cast<int64_t>(i)}});
      start += count;
    }
    if (!w.gate) g.places.push_back(std::move(place));
    groups.push_back(std::move(g));
  }
  return groups;
}

// ---- sums ----

std::vector<ComponentGroup> terms(const Graph& graph, const GroupOptions& o) {
  std::vector<ComponentGroup> groups;
  for (const Node& n : graph.nodes()) {
    if (!is(n, "add") || !selected(o.on, n.name)) continue;
    ComponentGroup g{.name = n.name, .components = {}};
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Edge e = n.inputs[i];
      const Node* maker = maker_of(graph, e);
      GroupComponent c{.name = graph[e].name};
      if (maker && is_component_gate(*maker)) {
        c.gate = maker->name;
        c.coefficient = index_list(*maker).front();
        c.name = graph[maker->inputs.front()].name;
      } else {
        g.places.push_back({.gate = n.name + "." + std::to_string(i) + component_suffix,
                            .edge = graph[e].name,
                            .readers = {n.name},
                            .index = repeated(static_cast<int64_t>(i), channels_of(graph, e))});
      }
      // What only leads to this term is its own.
      for (Edge at = e; graph[at].producer >= 0;) {
        const Node& node = node_at(graph, graph[at].producer);
        const Node* reader = sole_reader(graph, at);
        if (!reader || node.inputs.empty() || node.outputs.size() != 1) break;
        for (const ParamId p : node.parameters) {
          if (is_trainable_weight(graph[p])) c.parts.push_back({p});
        }
        if (node.inputs.size() > 1 && !is_component_gate(node)) break;
        at = node.inputs.front();
      }
      g.without.push_back({Disconnect{.node = n.name, .input = static_cast<int64_t>(i)}});
      g.components.push_back(std::move(c));
    }
    groups.push_back(std::move(g));
  }
  return groups;
}

}  // namespace

GroupKind group_kind(const std::string& name) {
  if (name == "branches") return GroupKind::branches;
  if (name == "connections") return GroupKind::connections;
  if (name == "sums") return GroupKind::sums;
  return GroupKind::blocks;
}

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

std::vector<ComponentGroup> component_groups(const Graph& graph, const GroupOptions& options) {
  std::vector<ComponentGroup> groups;
  switch (options.kind) {
    case GroupKind::blocks:
      groups = stages(graph, options);
      break;
    case GroupKind::branches:
      groups = branches(graph, options);
      break;
    case GroupKind::connections:
      groups = connections(graph, options);
      break;
    case GroupKind::sums:
      groups = terms(graph, options);
      break;
  }
  for (ComponentGroup& g : groups) {
    for (GroupComponent& c : g.components) {
      for (const ComponentPart& part : c.parts) {
        const int64_t all = graph.numel(graph[part.parameter].shape);
        c.weights += part.dimension < 0
                         ? all
                         : all / graph.size(graph[part.parameter].shape[static_cast<size_t>(part.dimension)]) *
                               static_cast<int64_t>(part.positions.size());
      }
    }
  }
  return groups;
}

Edits ComponentGroup::remove(const Graph& graph, const std::vector<size_t>& gone, bool exact) const {
  Edits edits;
  if (gone.empty()) return edits;
  if (without.empty()) {
    Indices positions;
    for (const size_t i : gone) positions.push_back(static_cast<int64_t>(i));
    edits.push_back(shrink(graph, axis, complement(positions, graph[axis].size)));
    return edits;
  }
  // From the last on, so that the numbers of inputs hold.
  for (size_t k = gone.size(); k-- > 0;) {
    Edit e = without[gone[k]];
    if (auto* d = std::get_if<Disconnect>(&e.what)) d->exact = exact;
    if (auto* d = std::get_if<DropBlock>(&e.what)) d->exact = exact;
    edits.push_back(std::move(e));
  }
  return edits;
}

at::Tensor square_of(const GroupComponent& component, const Weights& weights) {
  at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(weights.device()));
  for (const ComponentPart& part : component.parts) {
    at::Tensor w = weights[part.parameter].detach();
    if (part.dimension >= 0) w = w.index_select(part.dimension, at::tensor(part.positions, at::kLong).to(w.device()));
    sum.add_(w.square().sum(at::kDouble));
  }
  return sum;
}

}  // namespace espalier
