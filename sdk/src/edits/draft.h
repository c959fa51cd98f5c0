#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/rewrite.h"

namespace espalier {

// A graph under reconstruction: nodes in any order, what nothing needs still there. finish() puts it in order.
class Draft {
 public:
  explicit Draft(const Graph& before) : before_(before), graph_(before) {}

  Graph& graph() { return graph_; }
  std::vector<AxisInfo>& axes() { return graph_.axes_; }
  std::vector<EdgeInfo>& edges() { return graph_.edges_; }
  std::vector<Node>& nodes() { return graph_.nodes_; }
  std::vector<Parameter>& parameters() { return graph_.parameters_; }
  EdgeInfo& edge(Edge e) { return edges()[static_cast<size_t>(e.id)]; }

  // Throws EditError naming the nearest known name.
  int32_t node(const std::string& name) const;
  // The output of the node with this name, or the graph's input.
  Edge edge(const std::string& name) const;
  std::vector<int32_t> readers(Edge e) const;
  bool is_output(Edge e) const;
  // Throws EditError, beginning with `what`, where a node or an edge is called so already.
  void require_new(const std::string& what, const std::string& name) const;

  // What read `old` reads `now`: the nodes listed, or (null) all but the maker of `now`, and the graph's outputs.
  void redirect(Edge old, Edge now, const std::vector<int32_t>* only = nullptr);

  // A dimension of the edge becomes another, and with it all that follows from it: parameters of the nodes that read
  // the edge, their outputs, and so on. `from`: the old position of each new one; null: all, in order. Throws EditError
  // where another input would no longer fit, or an output of the network would be another.
  void reshape(Edge e, const Dim& old, const Dim& now, const Indices* from = nullptr);

  // An axis's origin, where it is not itself (a view's axis comes from the one it reads).
  void comes_from(Axis made, Axis origin) { origins_.emplace_back(made, origin); }

  // Orders the nodes, removes those that no output needs with their edges and parameters, and unused axes.
  Rewrite finish(Rewrite::Effect effect);

 private:
  void reshape_reader(int32_t reader, Edge e, const Dim& old, const Dim& now, const Indices* from);
  // A dimension of a parameter, where it has old's segments (at segment `where`; nullopt: anywhere); whether it has.
  bool reshape_parameter(ParamId p, size_t d, const Dim& old, const Dim& now, std::optional<size_t> where,
                         const Indices* from);

  const Graph& before_;
  Graph graph_;
  std::vector<std::pair<Axis, Axis>> origins_;
  std::map<ParamId, std::map<size_t, Indices>> windows_;
};

// What a block consists of: the nodes whose names begin with NAME and a dot.
struct Block {
  std::vector<int32_t> nodes;
  Edge in, out;
};
// Throws EditError where there is no such block, or it has not one input and one output.
Block block(const Draft& draft, const Graph& graph, const std::string& name);

// Whether the edge depends on the graph's inputs: coefficients do not.
std::vector<bool> depends_on_input(const Graph& graph);

// ---- the plans, by kind ----
Rewrite plan_widths(const Graph& graph, const Edits& edits, size_t& first);
Rewrite plan_change(const Graph& graph, const SplitOff& e);
Rewrite plan_change(const Graph& graph, const Disconnect& e);
Rewrite plan_change(const Graph& graph, const DropBlock& e);
Rewrite plan_change(const Graph& graph, const InsertBlock& e);
Rewrite plan_change(const Graph& graph, const Choose& e);
Rewrite plan_change(const Graph& graph, const InsertGate& e);
Rewrite plan_change(const Graph& graph, const InsertGates& e);
Rewrite plan_change(const Graph& graph, const Substitute& e);
Rewrite plan_change(const Graph& graph, const FoldGate& e);
Rewrite plan_change(const Graph& graph, const RemoveGate& e);
Rewrite plan_change(const Graph& graph, const CropKernels& e);

}  // namespace espalier
