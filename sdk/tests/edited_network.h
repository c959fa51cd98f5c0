#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"

namespace espalier {

// A network with values that are not those it began with, running statistics, gradients and states of an optimizer, for
// tests of edits. Images are its input.
struct Network {
  explicit Network(Graph g, uint64_t seed = 7, int64_t batch = 16)
      : graph(std::move(g)), weights(graph, at::kDouble, at::kCPU), x(testkit::input_of(graph, batch, 2)) {
    const c10::NoGradGuard no_grad;
    weights.initialize(graph, RandomKey(seed));
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const Parameter& p = graph.parameters()[i];
      at::Tensor t = weights[{static_cast<int32_t>(i)}];
      if (p.kind == "norm_weight" || p.kind == "norm_bias")
        t.copy_(uniform(t.sizes().vec(), 0.5, 1.5, RandomKey(seed).with(p.name)));
    }
    run(graph, weights, {{"input", x}}, {"logits"}, {.training = true, .key = RandomKey(1)});  // running statistics
    add_states();
  }
  // The same graph and values, gradients and states as those of a new one.
  Network(const Network& other) : graph(other.graph), weights(graph, at::kDouble, at::kCPU), x(other.x) {
    weights.copy_from(other.weights);
    add_states();
  }
  void add_states() {
    weights.add_state(graph, {.name = "momentum"});
    weights.add_state(
        graph, {.name = "per filter", .shape = [](const Parameter& p) { return Shape{p.shape[0]}; }, .initial = 0.5});
    // Of layers' inputs, or kernels: whatever dimensions there are beside the first.
    weights.add_state(graph, {.name = "per input",
                              .shape = [](const Parameter& p) { return Shape(p.shape.begin() + 1, p.shape.end()); }});
    for (const Role r : {Role::weight, Role::architecture}) {
      Bank& b = weights.bank(r);
      stir(b.gradients, 3);
      for (auto& [name, state] : b.states) stir(state, 5);
    }
  }
  static void stir(Arena& arena, double factor) {
    for (size_t i = 0; i < arena.slots().size(); ++i) {
      const Slot& slot = arena.slots()[i];
      auto* v = arena.flat().data_ptr<double>() + slot.offset;
      for (int64_t j = 0; j < slot.numel; ++j)
        v[j] = std::sin(factor * static_cast<double>(j + 1) + static_cast<double>(i));
    }
  }
  at::Tensor logits() const {
    const c10::NoGradGuard no_grad;
    return run(graph, weights, {{"input", x}}, {"logits"}).front();
  }
  // The output of a node.
  at::Tensor at_node(const std::string& name) const {
    const c10::NoGradGuard no_grad;
    Graph with = graph;
    with.add_output("probe", graph.node(name).outputs[0]);
    return run(with, weights, {{"input", x}}, {"probe"}).front();
  }
  void edit(const Edits& edits) { apply(graph, {&weights}, edits); }
  at::Tensor operator[](const std::string& name) const { return weights[graph.parameter(name)].detach(); }
  at::Tensor state(const std::string& state, const std::string& name) const {
    return weights.state(state, graph.parameter(name));
  }
  bool has(const std::string& node) const {
    return std::ranges::find(graph.nodes(), node, &Node::name) != graph.nodes().end();
  }
  bool has_parameter(const std::string& name) const {
    return std::ranges::find(graph.parameters(), name, &Parameter::name) != graph.parameters().end();
  }
  int64_t size(const std::string& axis) const { return graph[graph.axis(axis)].size; }
  // Numbers that the trainable tensors hold.
  int64_t numbers() const {
    int64_t n = 0;
    for (const Role r : {Role::weight, Role::architecture}) {
      for (const Slot& s : weights.bank(r).values.slots()) n += s.numel;
    }
    return n;
  }
  // All there is: structure, values, gradients, states.
  std::string bytes() const {
    std::string all = to_json(graph.to_value());
    const auto add = [&](const Arena& a) {
      const at::Tensor flat = a.flat().contiguous();
      all.append(static_cast<const char*>(flat.const_data_ptr()), static_cast<size_t>(flat.nbytes()));
    };
    for (const Role r : {Role::weight, Role::architecture, Role::buffer}) {
      const Bank& b = weights.bank(r);
      add(b.values);
      if (r != Role::buffer) add(b.gradients);
      for (const auto& [name, state] : b.states) add(state);
    }
    return all;
  }

  Graph graph;
  Weights weights;
  at::Tensor x;
};

inline double largest(const at::Tensor& t) {
  return t.numel() == 0 ? 0 : t.abs().max().item<double>();
}

// Which positions of a dimension stay where these changes of widths drop positions: counted segment by segment and
// factor by factor, without the library's own ways of doing it.
inline std::vector<bool> stays(const Graph& g, const Dim& dim, const std::vector<AxisChange>& changes) {
  std::vector<bool> all;
  for (const Segment& s : dim.segments) {
    const int64_t size = g.size(s);
    for (int64_t i = 0; i < size; ++i) {
      bool stays = true;
      int64_t rest = i;
      for (size_t f = s.factors.size(); f-- > 0;) {
        const int64_t extent = g.size(Segment{{s.factors[f]}}), at = rest % extent;
        rest /= extent;
        for (const AxisChange& c : changes) {
          if (c.axis == s.factors[f].axis) stays = stays && std::ranges::find(c.from, at) != c.from.end();
        }
      }
      all.push_back(stays);
    }
  }
  return all;
}

// What remains of a tensor of this shape.
inline at::Tensor remaining(const Graph& g, const Shape& shape, const at::Tensor& t,
                            const std::vector<AxisChange>& changes) {
  at::Tensor part = t;
  for (size_t d = 0; d < shape.size(); ++d) {
    const at::Tensor kept = at::tensor(indices_of(stays(g, shape[d], changes)), at::kLong);
    part = part.index_select(static_cast<int64_t>(d), kept);
  }
  return part;
}

// The logits where every node gives zero at the positions that the changes drop, so that each reader sees zeros there.
// An oracle of removal that looks at no parameter. nullopt: something counts the channels (layer norm, softmax).
inline std::optional<at::Tensor> masked_logits(const Network& n, const std::vector<AxisChange>& changes) {
  const c10::NoGradGuard no_grad;
  const Graph& g = n.graph;
  const Pass pass{.training = false, .key = RandomKey(1), .fuse = false};
  std::vector<at::Tensor> values(g.edges().size());
  const Edge wanted = g.output("logits");
  for (const Port& port : g.inputs()) values[static_cast<size_t>(port.edge.id)] = n.x;
  for (const Node& node : g.nodes()) {
    std::vector<at::Tensor> inputs;
    bool touched = false;
    for (const Edge e : node.inputs) {
      inputs.push_back(values[static_cast<size_t>(e.id)]);
      for (const Dim& d : g[e].shape) {
        for (const AxisChange& c : changes) touched = touched || d.reads(c.axis);
      }
    }
    if (touched && node.op->reduces_over_width()) return std::nullopt;
    if (node.op->type() == "cross_entropy") continue;
    const std::vector<at::Tensor> results = node.op->forward({g, node, n.weights, pass, inputs});
    for (size_t i = 0; i < results.size(); ++i) {
      const Shape& shape = g[node.outputs[i]].shape;
      at::Tensor y = results[i];
      for (size_t d = 0; d < shape.size(); ++d) {
        std::vector<double> factors;
        for (const bool s : stays(g, shape[d], changes)) factors.push_back(s ? 1 : 0);
        std::vector<int64_t> sizes(shape.size() + 1, 1);
        sizes[d + 1] = -1;
        y = y * at::tensor(factors, at::kDouble).to(y.scalar_type()).reshape(sizes);
      }
      values[static_cast<size_t>(node.outputs[i].id)] = y;
    }
  }
  return values[static_cast<size_t>(wanted.id)];
}

// Values and buffers by name, copied.
inline std::map<std::string, at::Tensor> values_by_name(const Network& n) {
  std::map<std::string, at::Tensor> values;
  for (size_t i = 0; i < n.graph.parameters().size(); ++i)
    values[n.graph.parameters()[i].name] = n.weights[{static_cast<int32_t>(i)}].detach().clone();
  return values;
}

// Of the values (of a network with graph `before`): what is no longer what it was, bit for bit, after only these
// changes of widths. Empty: all is.
inline std::string changed_values(const Graph& before, const std::map<std::string, at::Tensor>& values,
                                  const Network& after, const std::vector<AxisChange>& changes) {
  std::string changed;
  for (const auto& [name, value] : values) {
    const at::Tensor expected = remaining(before, before[before.parameter(name)].shape, value, changes);
    if (!at::equal(after[name], expected)) changed += (changed.empty() ? "" : ", ") + name;
  }
  return changed;
}

// Whether the edits are refused for a reason that holds `why`, and nothing changes.
inline std::string refusal(Network& n, const Edits& edits) {
  const std::string before = n.bytes();
  std::string why = "(carried out)";
  try {
    n.edit(edits);
  } catch (const Error& e) {
    why = e.what();
  }
  return n.bytes() == before ? why : "(changed) " + why;
}

// Sets the coefficients of a gate, or of what else is called so.
inline void set(Network& n, const std::string& parameter, const at::Tensor& values) {
  const c10::NoGradGuard no_grad;
  at::Tensor(n.weights[n.graph.parameter(parameter)]).copy_(values);
}

// Different ones, of both signs and one zero.
inline at::Tensor some_values(int64_t size) {
  std::vector<double> v;
  for (int64_t i = 0; i < size; ++i) v.push_back(i == 2 ? 0 : std::cos(static_cast<double>(i)) * (i % 3 == 1 ? -2 : 1));
  return at::tensor(v, at::kDouble);
}

}  // namespace espalier
