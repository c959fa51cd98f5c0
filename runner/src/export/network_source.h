#pragma once

#include <functional>
#include <string>
#include <vector>

#include "espalier/graph.h"

namespace espalier {

// The nodes that outputs need, in the order in which they run: the loss is not needed for the logits. Outputs go by
// name, here and below.
std::vector<const Node*> nodes_for(const Graph& graph, const std::vector<std::string>& outputs);
// The graph's inputs that they need, in the graph's order.
std::vector<Port> inputs_for(const Graph& graph, const std::vector<std::string>& outputs);

// A network's forward pass as source that Python and TorchScript both understand.
struct NetworkSource {
  std::string functions;  // that the operations brought along, each once
  std::string forward;    // def forward(self, x): ... return the outputs; with several inputs they are x0, x1 ...
};

struct SourceNames {
  // The expression for the parameter or buffer of a name.
  std::function<std::string(const std::string& name)> parameter;
  // The expression for the module of a node that has one; empty: operations are written as expressions.
  std::function<std::string(const Node& node)> module = {};
};

// Throws Error for an operation without a Python form.
NetworkSource network_source(const Graph& graph, const std::vector<std::string>& outputs, const SourceNames& names);

}  // namespace espalier
