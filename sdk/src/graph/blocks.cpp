#include "espalier/blocks.h"

#include "espalier/operation.h"

namespace espalier {

std::set<std::string> residual_blocks(const Graph& graph) {
  std::set<std::string> blocks;
  for (const Node& n : graph.nodes()) {
    const size_t dot = n.name.rfind('.');
    if (n.op->type() == "add" && dot != std::string::npos) blocks.insert(n.name.substr(0, dot));
  }
  return blocks;
}

std::string block_of(const Graph& graph, ParamId parameter, const std::set<std::string>& blocks) {
  std::string name = graph.nodes()[static_cast<size_t>(graph[parameter].node)].name;
  for (size_t dot = name.rfind('.'); dot != std::string::npos; dot = name.rfind('.')) {
    name.resize(dot);
    if (blocks.contains(name)) return name;
  }
  return "";
}

bool is_spatial(const Graph& graph, ParamId parameter) {
  const Shape& s = graph[parameter].shape;
  return s.size() == 4 && (graph.size(s[2]) > 1 || graph.size(s[3]) > 1);
}

}  // namespace espalier
