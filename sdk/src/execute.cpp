#include "espalier/execute.h"

#include "espalier/error.h"

namespace espalier {

std::vector<at::Tensor> run(const Graph& graph, const Weights& weights,
                            const std::vector<std::pair<std::string_view, at::Tensor>>& inputs,
                            const std::vector<std::string_view>& outputs, const Pass& pass) {
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
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (!needed[n]) continue;
    const Node& node = graph.nodes()[n];
    arguments.clear();
    for (const Edge e : node.inputs) {
      at::Tensor& x = values[static_cast<size_t>(e.id)];
      arguments.push_back(--readers[static_cast<size_t>(e.id)] == 0 ? std::move(x) : x);
    }
    // Together with the next node, where that reads nothing else and alone.
    const size_t out = node.outputs.size() == 1 ? static_cast<size_t>(node.outputs[0].id) : 0;
    if (pass.fuse && node.outputs.size() == 1 && readers[out] == 1 && reader[out] >= 0) {
      const Node& next = graph.nodes()[static_cast<size_t>(reader[out])];
      if (next.inputs.size() == 1 && next.outputs.size() == 1) {
        at::Tensor both = node.op->forward_with({graph, node, weights, pass, arguments}, next);
        if (both.defined()) {
          values[static_cast<size_t>(next.outputs[0].id)] = std::move(both);
          needed[static_cast<size_t>(reader[out])] = false;
          continue;
        }
      }
    }
    std::vector<at::Tensor> results = node.op->forward({graph, node, weights, pass, arguments});
    for (size_t i = 0; i < node.outputs.size(); ++i)
      values[static_cast<size_t>(node.outputs[i].id)] = std::move(results[i]);
  }

  std::vector<at::Tensor> result;
  for (const Edge e : wanted) result.push_back(values[static_cast<size_t>(e.id)]);
  return result;
}

}  // namespace espalier
