#include "espalier/execute.h"

#include <algorithm>
#include <optional>
#include <typeinfo>
#include <utility>

#include <ATen/ops/index_fill.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/rewrite.h"
#include "espalier/rows.h"
#include "operations/builtin.h"
#include "operations/fast_mixture.h"

namespace espalier {

namespace {

// A node's output with zeros at the positions that the changes drop.
at::Tensor without_positions(const Graph& graph, const Shape& shape, at::Tensor value,
                             const std::vector<AxisChange>& changes) {
  for (size_t d = 0; d < shape.size(); ++d) {
    const auto kept = gather(graph, shape[d], changes);
    if (!kept) continue;
    const at::Tensor gone = at::tensor(complement(*kept, graph.size(shape[d])), at::kLong).to(value.device());
    value = at::index_fill(value, static_cast<int64_t>(d) + 1, gone, 0);  // the batch comes first
  }
  return value;
}

// The nodes that no sample reaches come first (coefficients, and what is made of them), so that they are there when
// what they multiply is computed together with them; the others follow in their order.
std::vector<size_t> order_of(const Graph& graph) {
  std::vector<bool> sampled(graph.edges().size(), false);
  for (const Port& port : graph.inputs()) sampled[static_cast<size_t>(port.edge.id)] = true;
  std::vector<size_t> first, then;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    const bool depends =
        std::ranges::any_of(node.inputs, [&](Edge e) { return static_cast<bool>(sampled[static_cast<size_t>(e.id)]); });
    for (const Edge e : node.outputs) sampled[static_cast<size_t>(e.id)] = depends;
    (depends ? then : first).push_back(n);
  }
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

// What nodes computed that others will compute again from the same input.
class Repeated {
 public:
  Repeated(const Graph& graph, const std::vector<bool>& needed) : first_(graph.nodes().size(), none) {
    std::vector<std::vector<size_t>> of_edge(graph.edges().size());
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      if (!needed[n] || node.inputs.size() != 1 || node.outputs.size() != 1) continue;
      const auto* op = dynamic_cast<const Repeatable*>(node.op.get());
      if (!op) continue;
      std::vector<size_t>& others = of_edge[static_cast<size_t>(node.inputs[0].id)];
      const auto same =
          std::ranges::find_if(others, [&](size_t other) { return op->computes_like(*graph.nodes()[other].op); });
      if (same == others.end()) {
        others.push_back(n);
      } else {
        first_[n] = *same;
        if (values_.empty()) values_.resize(graph.nodes().size());
        ++values_[*same].left;
      }
    }
  }
  // Keeps what a node computed if another one needs it.
  void keep(size_t node, const at::Tensor& value) {
    if (values_.empty()) return;
    Value& v = values_[first_[node] == none ? node : first_[node]];
    if (v.left > 0) v.value = value;
  }
  // Returns what the node computes if another one has done that; undefined if not.
  at::Tensor take(size_t node) {
    if (first_[node] == none) return {};
    Value& v = values_[first_[node]];
    return --v.left == 0 ? std::exchange(v.value, {}) : v.value;
  }

 private:
  struct Value {
    at::Tensor value;
    int left = 0;
  };
  static constexpr size_t none = ~size_t{0};
  std::vector<size_t> first_;  // of each node, the first that computes the same; none: there is none before
  std::vector<Value> values_;
};

// Whether a node waits for the one that alone reads it, `reader`, to be computed together with it.
bool waits(const Forward& f, const Node& reader, const std::vector<at::Tensor>& values) {
  const auto* sum = dynamic_cast<const OfTerms*>(reader.op.get());
  const auto* term = sum ? dynamic_cast<const AsTerm*>(f.node.op.get()) : nullptr;
  if (!term || reader.inputs.back() == f.node.outputs[0]) return false;
  const at::Tensor& coefficients = values[static_cast<size_t>(reader.inputs.back().id)];
  return coefficients.defined() && sum->takes_terms(coefficients) && term->as_term(f);
}

// Whether a node reads its input i in this pass.
bool reads(const Node& node, size_t i, const Pass& pass) {
  const auto* some = dynamic_cast<const ReadsByPass*>(node.op.get());
  return !some || some->reads(i, pass);
}

// Images of another height or width than the graph was built with. Operations compute from the sizes that tensors have;
// what goes wrong in one that cannot is told as what it is: an input that does not fit.
class OtherSizes {
 public:
  OtherSizes(const Graph& graph, const Port& port, const at::Tensor& x)
      : what_("the network's input '" + port.name + "' must be [batch] + " +
              to_string(graph.sizes(graph[port.edge].shape)) + ", got " + to_string(x.sizes().vec())) {}

  // Whether the tensor differs from the shape of an image in height and width alone.
  static bool are(const Graph& graph, const Shape& shape, const at::Tensor& x) {
    return shape.size() == 3 && channel_dim(shape) == 0 && !shape[1].has_axis() && !shape[2].has_axis() &&
           x.dim() == 4 && x.size(1) == graph.size(shape[0]) && x.size(2) > 0 && x.size(3) > 0;
  }
  // Is told which node is computed.
  void at(const Node& node) { node_ = &node; }
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(what_ +
                (node_
                     ? "; the node '" + node_->name + "' (" + node_->op->type() + ") takes no other height and width: "
                     : ": ") +
                why);
  }
  // Widths are what the graph says, whatever the images.
  void check(const Graph& graph, const Shape& shape, const at::Tensor& value) const {
    for (size_t d = 0; d < shape.size(); ++d) {
      const int64_t wanted = graph.size(shape[d]),
                    got = value.dim() > static_cast<int64_t>(d) + 1 ? value.size(static_cast<int64_t>(d) + 1) : 0;
      if (shape[d].has_axis() && wanted != got)
        refuse("it gives " + std::to_string(got) + " features in place of " + std::to_string(wanted));
    }
  }

 private:
  std::string what_;
  const Node* node_ = nullptr;
};

std::vector<at::Tensor> compute(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                                const std::vector<std::string_view>& outputs, const Pass& given,
                                const Observer& observe, std::optional<OtherSizes>& others) {
  Pass pass = given;
  if (observe) pass.fuse = false;
  if (pass.training && !pass.statistics) {
    pass.statistics = true;
    const at::Tensor& buffers = weights.bank(Role::buffer).values.flat();
    if (buffers.defined() && buffers.numel() > 0) {
      // Without telling autograd: no derivative depends on what a training pass writes there.
      const at::Tensor memory = buffers.variable_data(), kept = memory.clone();
      std::vector<at::Tensor> results = compute(graph, weights, inputs, outputs, pass, observe, others);
      memory.copy_(kept);
      return results;
    }
  }
  // Which nodes the outputs need, and how often each edge is still read: activations go as soon as nothing reads them.
  std::vector<int> readers(graph.edges().size(), 0);
  std::vector<bool> needed(graph.nodes().size(), false);
  std::vector<int32_t> reader(graph.edges().size(), -1);  // a node that reads the edge
  std::vector<Edge> wanted;
  for (const std::string_view name : outputs) {
    wanted.push_back(graph.output(name));
    ++readers[static_cast<size_t>(wanted.back().id)];
  }
  for (size_t n = graph.nodes().size(); n-- > 0;) {
    for (const Edge e : graph.nodes()[n].outputs) needed[n] = needed[n] || readers[static_cast<size_t>(e.id)] > 0;
    if (!needed[n]) continue;
    const Node& node = graph.nodes()[n];
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!reads(node, i, pass)) continue;
      const Edge e = node.inputs[i];
      ++readers[static_cast<size_t>(e.id)];
      reader[static_cast<size_t>(e.id)] = static_cast<int32_t>(n);
    }
  }

  std::vector<at::Tensor> values(graph.edges().size());
  for (const Port& port : graph.inputs()) {
    if (readers[static_cast<size_t>(port.edge.id)] == 0) continue;
    for (const auto& [name, tensor] : inputs) {
      if (name == port.name) values[static_cast<size_t>(port.edge.id)] = tensor;
    }
    const at::Tensor& x = values[static_cast<size_t>(port.edge.id)];
    if (!x.defined()) throw Error("the network needs the input '" + port.name + "'");
    const std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
    if (x.dim() < 1 || x.sizes().slice(1).vec() != sizes) {
      if (OtherSizes::are(graph, graph[port.edge].shape, x)) {
        others.emplace(graph, port, x);
        continue;
      }
      throw Error("the network's input '" + port.name + "' must be [batch] + " + to_string(sizes) + ", got " +
                  to_string(x.sizes().vec()));
    }
  }

  const bool together = pass.fuse && !pass.without;
  std::optional<Repeated> repeated;
  if (together) repeated.emplace(graph, needed);
  std::vector<const Node*> waiting(graph.edges().size(), nullptr);  // the node, where its input stands in its place
  std::vector<const Node*> producers;
  std::vector<at::Tensor> arguments;
  std::vector<Operation::Link> chain;
  for (const size_t n : order_of(graph)) {
    if (!needed[n]) continue;
    const Node& node = graph.nodes()[n];
    if (others) others->at(node);
    arguments.clear();
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!reads(node, i, pass)) {
        arguments.emplace_back();
        continue;
      }
      const auto e = static_cast<size_t>(node.inputs[i].id);
      at::Tensor& x = values[e];
      arguments.push_back(--readers[e] == 0 ? std::move(x) : x);
    }
    if (together) {
      if (at::Tensor value = repeated->take(n); value.defined()) {
        values[static_cast<size_t>(node.outputs[0].id)] = std::move(value);
        continue;
      }
      const size_t out = static_cast<size_t>(node.outputs[0].id);
      if (node.outputs.size() == 1 && readers[out] == 1 && reader[out] >= 0 &&
          waits({graph, node, weights, pass, arguments}, graph.nodes()[static_cast<size_t>(reader[out])], values)) {
        values[out] = arguments[0];
        waiting[out] = &node;
        continue;
      }
      producers.clear();
      for (const Edge e : node.inputs) producers.push_back(waiting[static_cast<size_t>(e.id)]);
      if (std::ranges::any_of(producers, [](const Node* p) { return p != nullptr; })) {
        values[out] =
            dynamic_cast<const OfTerms&>(*node.op).forward_terms({graph, node, weights, pass, arguments}, producers);
        continue;
      }
    }
    // Together with what follows, where nothing else reads what is between and all else is there already.
    chain.clear();
    for (const Node* last = &node; together && chain.size() < 3;) {
      const size_t out = static_cast<size_t>(last->outputs[0].id);
      if (last->outputs.size() != 1 || readers[out] != 1 || reader[out] < 0) break;
      const Node& next = graph.nodes()[static_cast<size_t>(reader[out])];
      Operation::Link link{next, {}};
      bool ready = next.outputs.size() == 1;
      for (const Edge e : next.inputs) {
        link.inputs.push_back(e == last->outputs[0] ? at::Tensor() : values[static_cast<size_t>(e.id)]);
        ready = ready && (e == last->outputs[0] || link.inputs.back().defined());
      }
      if (!ready) break;
      chain.push_back(std::move(link));
      last = &next;
    }
    if (!chain.empty()) {
      Operation::Fused fused = node.op->forward_chain({graph, node, weights, pass, arguments}, chain);
      if (fused.value.defined()) {
        for (size_t i = 0; i < fused.links; ++i) {
          const Node& next = chain[i].node;
          needed[static_cast<size_t>(&next - graph.nodes().data())] = false;
          for (size_t k = 0; k < next.inputs.size(); ++k) {
            const auto e = static_cast<size_t>(next.inputs[k].id);
            if (chain[i].inputs[k].defined() && --readers[e] == 0) values[e] = at::Tensor();
          }
        }
        const Edge out = chain[fused.links - 1].node.outputs[0];
        if (others) others->check(graph, graph[out].shape, fused.value);
        values[static_cast<size_t>(out.id)] = std::move(fused.value);
        continue;
      }
    }
    std::vector<at::Tensor> results = node.op->forward({graph, node, weights, pass, arguments});
    if (together) repeated->keep(n, results[0]);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Edge out = node.outputs[i];
      if (others) others->check(graph, graph[out].shape, results[i]);
      if (pass.without) results[i] = without_positions(graph, graph[out].shape, results[i], *pass.without);
      if (observe) observe(out, results[i]);
      values[static_cast<size_t>(out.id)] = std::move(results[i]);
    }
  }

  std::vector<at::Tensor> result;
  for (const Edge e : wanted) result.push_back(values[static_cast<size_t>(e.id)]);
  return result;
}

}  // namespace

std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                            const std::vector<std::string_view>& outputs, const Pass& pass) {
  return run(graph, weights, inputs, outputs, pass, nullptr);
}

std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                            const std::vector<std::string_view>& outputs, const Pass& pass, const Observer& observe) {
  std::optional<OtherSizes> others;
  try {
    return compute(graph, weights, inputs, outputs, pass, observe, others);
  } catch (const c10::Error& e) {
    // Sizes that do not fit each other are LibTorch's plainest error; a lack of memory is one of its own.
    if (!others || typeid(e) != typeid(c10::Error)) throw;
    others->refuse(e.what_without_backtrace());
  }
}

}  // namespace espalier
