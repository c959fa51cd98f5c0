#include "channel_gates.h"

#include <algorithm>
#include <set>
#include <string>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/score.h>

namespace espalier {

namespace {

constexpr const char* suffix = ".gate";

bool is_batch_norm(const Node& n) {
  return n.op->type() == "batch_norm";
}
bool is_layer(const Graph& graph, const Node& n) {
  return !n.parameters.empty() && graph[n.parameters.front()].kind == "weight";
}
bool is_view(const Node& n) {
  const Value options = n.op->options();
  const Value* drops = n.op->type() == "select" ? options.find("drops") : nullptr;
  return drops && drops->as_bool();
}
// Operations that act on each number by itself.
bool is_activation(const Node& n) {
  static const std::set<std::string> types{"relu", "relu6", "gelu", "silu", "sigmoid", "tanh"};
  return types.contains(n.op->type());
}

// The batch norm that alone reads a layer, or the node itself.
const Node& normed(const Graph& graph, const Node& n) {
  const Node* reader = is_layer(graph, n) ? sole_reader(graph, n.outputs.front()) : nullptr;
  return reader && is_batch_norm(*reader) ? *reader : n;
}

}  // namespace

Edits channel_gates(const Graph& graph, const Selector& on) {
  Edits edits;
  if (on.empty()) return edits;
  on.require_matches(graph);
  std::set<std::string> gated;
  for (const Node& n : graph.nodes()) {
    if (n.name.ends_with(suffix)) gated.insert(n.name);
  }
  for (const ParamId p : on.match(graph)) {
    const Node& named = graph.nodes()[static_cast<size_t>(graph[p].node)];
    // What an earlier stage put in, for selectors such as `all`.
    if (graph[p].kind == "gate") continue;
    const std::string what = "'gates' names '" + named.name + "', ";
    if (!is_layer(graph, named) && !is_batch_norm(named)) {
      throw Error(what + "a '" + named.op->type() +
                  "': gates stand behind layers and batch norms. Name these, for example `gates: norms`, or take it "
                  "away: `\"!" +
                  named.name + "\"`");
    }
    const Node& base = normed(graph, named);
    if (!gated.insert(base.name + suffix).second) continue;
    Edge place = base.outputs.front();
    for (const Node* next = sole_reader(graph, place); next && (is_view(*next) || is_activation(*next));
         next = sole_reader(graph, place)) {
      place = next->outputs.front();
    }
    const Shape& shape = graph[place].shape;
    const Dim& channels = shape[channel_dim(shape)];
    bool is_free = false;
    for (size_t a = 0; a < graph.axes().size(); ++a)
      is_free = is_free || (!graph.axes()[a].fixed && channels.reads({static_cast<int32_t>(a)}));
    if (!is_free) {
      throw Error(what +
                  "whose number of outputs is given from outside, so that nothing of it can go; take it away: "
                  "`\"!" +
                  named.name + "\"`");
    }
    edits.push_back({InsertGate{.gate = base.name + suffix,
                                .edge = graph[place].name,
                                .axis = "",
                                .initial = 1,
                                .role = "architecture",
                                .readers = {}}});
  }
  return edits;
}

}  // namespace espalier
