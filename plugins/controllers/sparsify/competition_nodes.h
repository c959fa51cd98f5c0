#pragma once

#include <algorithm>
#include <string>

#include <espalier/graph.h>
#include <espalier/operation.h>

// Nodes that make the coefficients of components that compete.
namespace espalier {

// Returns the node's operation if it is one of this class, or else null.
template <class T>
const T* operation_of(const Node& n) {
  return dynamic_cast<const T*>(n.op.get());
}

// Returns the node of this name; null: there is none.
inline const Node* find_competition(const Graph& graph, const std::string& name) {
  const auto it = std::ranges::find(graph.nodes(), name, &Node::name);
  return it == graph.nodes().end() ? nullptr : &*it;
}

}  // namespace espalier
