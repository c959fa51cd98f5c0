#include "output/network_source.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "espalier/operation.h"
#include "output/text.h"

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

std::vector<const Node*> nodes_for(const Graph& graph, Edge output) {
  std::vector<bool> wanted(graph.edges().size(), false);
  wanted[static_cast<size_t>(output.id)] = true;
  std::vector<const Node*> needed;
  for (auto n = graph.nodes().rbegin(); n != graph.nodes().rend(); ++n) {
    if (std::ranges::none_of(n->outputs, [&](Edge e) { return wanted[static_cast<size_t>(e.id)]; })) continue;
    needed.push_back(&*n);
    for (const Edge e : n->inputs) wanted[static_cast<size_t>(e.id)] = true;
  }
  std::ranges::reverse(needed);
  return needed;
}

NetworkSource network_source(const Graph& graph, const std::function<std::string(const std::string&)>& parameter) {
  NetworkSource source;
  std::set<std::string> functions;
  Variables variables;
  std::vector<std::string> values(graph.edges().size());
  values[static_cast<size_t>(graph.inputs().front().edge.id)] = "x";
  const Edge logits = graph.output("logits");
  source.forward = "def forward(self, x):\n";
  for (const Node* n : nodes_for(graph, logits)) {
    const PythonForm form = n->op->python(graph, *n);
    if (!form.function.empty() && functions.insert(form.function).second)
      source.functions += form.function + (form.function.ends_with('\n') ? "\n\n" : "\n\n\n");
    std::string expression = form.expression;
    for (size_t i = 0; i < n->inputs.size(); ++i)
      replace_all(expression, "{" + std::to_string(i) + "}", values[static_cast<size_t>(n->inputs[i].id)]);
    for (size_t i = 0; i < n->parameters.size(); ++i)
      replace_all(expression, "{p" + std::to_string(i) + "}", parameter(graph[n->parameters[i]].name));
    replace_all(expression, "{training}", "self.training");
    std::string targets;
    for (const Edge e : n->outputs) {
      values[static_cast<size_t>(e.id)] = variables.add(graph[e].name);
      targets += (targets.empty() ? "" : ", ") + values[static_cast<size_t>(e.id)];
    }
    source.forward += "    " + targets + " = " + expression + "\n";
  }
  source.forward += "    return " + values[static_cast<size_t>(logits.id)] + "\n";
  return source;
}

}  // namespace espalier
