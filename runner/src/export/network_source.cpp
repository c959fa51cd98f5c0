#include "export/network_source.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "espalier/operation.h"
#include "system/text.h"

namespace espalier {

namespace {

// Local variables, one for each edge: names of nodes may contain dots, and become the same without them.
class Variables {
 public:
  std::string add(const std::string& name) {
    std::string base = "v_";
    for (const char c : name) base += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
    std::string unique = base;
    for (int i = 2; !taken_.insert(unique).second; ++i) unique = base + "_" + std::to_string(i);
    return unique;
  }

 private:
  std::set<std::string> taken_;
};

}  // namespace

std::vector<const Node*> nodes_for(const Graph& graph, const std::vector<std::string>& outputs) {
  std::vector<bool> wanted(graph.edges().size(), false);
  for (const std::string& output : outputs) wanted[static_cast<size_t>(graph.output(output).id)] = true;
  std::vector<const Node*> needed;
  for (auto n = graph.nodes().rbegin(); n != graph.nodes().rend(); ++n) {
    if (std::ranges::none_of(n->outputs, [&](Edge e) { return wanted[static_cast<size_t>(e.id)]; })) continue;
    needed.push_back(&*n);
    for (const Edge e : n->inputs) wanted[static_cast<size_t>(e.id)] = true;
  }
  std::ranges::reverse(needed);
  return needed;
}

std::vector<Port> inputs_for(const Graph& graph, const std::vector<std::string>& outputs) {
  std::vector<Port> needed;
  const std::vector<const Node*> nodes = nodes_for(graph, outputs);
  for (const Port& port : graph.inputs()) {
    const bool read =
        std::ranges::any_of(nodes, [&](const Node* n) { return std::ranges::count(n->inputs, port.edge); });
    const bool given = std::ranges::any_of(outputs, [&](const auto& o) { return graph.output(o) == port.edge; });
    if (read || given) needed.push_back(port);
  }
  return needed;
}

NetworkSource network_source(const Graph& graph, const std::vector<std::string>& outputs, const SourceNames& names) {
  NetworkSource source;
  std::set<std::string> functions;
  Variables variables;
  std::vector<std::string> values(graph.edges().size());
  const auto value = [&](Edge e) -> std::string& { return values[static_cast<size_t>(e.id)]; };
  const std::vector<Port> inputs = inputs_for(graph, outputs);
  source.forward = "def forward(self";
  for (size_t i = 0; i < inputs.size(); ++i) {
    value(inputs[i].edge) = inputs.size() == 1 ? "x" : "x" + std::to_string(i);
    source.forward += ", " + value(inputs[i].edge);
  }
  source.forward += "):\n";
  for (const Node* n : nodes_for(graph, outputs)) {
    const PythonForm form = n->op->python(graph, *n);
    std::string expression = form.expression;
    if (names.module && !form.module.empty()) {
      expression = names.module(*n) + "(";
      for (size_t i = 0; i < n->inputs.size(); ++i) expression += (i ? ", {" : "{") + std::to_string(i) + "}";
      expression += ")";
    } else if (!form.function.empty() && functions.insert(form.function).second) {
      source.functions += form.function + (form.function.ends_with('\n') ? "\n\n" : "\n\n\n");
    }
    for (size_t i = 0; i < n->inputs.size(); ++i)
      replace_all(expression, "{" + std::to_string(i) + "}", value(n->inputs[i]));
    for (size_t i = 0; i < n->parameters.size(); ++i)
      replace_all(expression, "{p" + std::to_string(i) + "}", names.parameter(graph[n->parameters[i]].name));
    replace_all(expression, "{training}", "self.training");
    std::string targets;
    for (const Edge e : n->outputs) {
      value(e) = variables.add(graph[e].name);
      targets += (targets.empty() ? "" : ", ") + value(e);
    }
    source.forward += "    " + targets + " = " + expression + "\n";
  }
  std::string returned;
  for (const std::string& output : outputs) returned += (returned.empty() ? "" : ", ") + value(graph.output(output));
  source.forward += "    return " + returned + "\n";
  return source;
}

}  // namespace espalier
