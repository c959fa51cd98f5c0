#pragma once

#include <functional>
#include <string>
#include <vector>

#include "espalier/graph.h"

namespace espalier {

// The nodes that an output needs, in the order in which they run: the loss is not needed for the logits.
std::vector<const Node*> nodes_for(const Graph& graph, Edge output);

// A network's forward pass as source that Python and TorchScript both understand.
struct NetworkSource {
  std::string functions;  // that the operations brought along, each once
  std::string forward;    // def forward(self, x): ... return logits
};

// `parameter` gives the expression for the parameter or buffer of a name. Throws Error for an operation without a
// Python form.
NetworkSource network_source(const Graph& graph, const std::function<std::string(const std::string&)>& parameter);

}  // namespace espalier
