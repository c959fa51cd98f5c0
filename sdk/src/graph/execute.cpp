#include "espalier/execute.h"

#include <algorithm>

#include <ATen/ops/index_fill.h>
#include <ATen/ops/tensor.h>

#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/rewrite.h"

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

}  // namespace

std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                            const std::vector<std::string_view>& outputs, const Pass& pass) {
  return run(graph, weights, inputs, outputs, pass, nullptr);
}

std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                            const std::vector<std::string_view>& outputs, const Pass& given, const Observer& observe) {
  Pass pass = given;
  if (observe) pass.fuse = false;
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
    for (const Edge e : graph.nodes()[n].inputs) {
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
      throw Error("the network's input '" + port.name + "' must be [batch] + " + to_string(sizes) + ", got " +
                  to_string(x.sizes().vec()));
    }
  }

  std::vector<at::Tensor> arguments;
  std::vector<Operation::Link> chain;
  for (const size_t n : order_of(graph)) {
    if (!needed[n]) continue;
    const Node& node = graph.nodes()[n];
    arguments.clear();
    for (const Edge e : node.inputs) {
      at::Tensor& x = values[static_cast<size_t>(e.id)];
      arguments.push_back(--readers[static_cast<size_t>(e.id)] == 0 ? std::move(x) : x);
    }
    // Together with what follows, where nothing else reads what is between and all else is there already.
    chain.clear();
    for (const Node* last = &node; pass.fuse && !pass.without && chain.size() < 3;) {
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
        values[static_cast<size_t>(chain[fused.links - 1].node.outputs[0].id)] = std::move(fused.value);
        continue;
      }
    }
    std::vector<at::Tensor> results = node.op->forward({graph, node, weights, pass, arguments});
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Edge out = node.outputs[i];
      if (pass.without) results[i] = without_positions(graph, graph[out].shape, results[i], *pass.without);
      if (observe) observe(out, results[i]);
      values[static_cast<size_t>(out.id)] = std::move(results[i]);
    }
  }

  std::vector<at::Tensor> result;
  for (const Edge e : wanted) result.push_back(values[static_cast<size_t>(e.id)]);
  return result;
}

}  // namespace espalier
