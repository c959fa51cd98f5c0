#include "espalier/operation.h"

#include "espalier/error.h"
#include "espalier/onnx.h"
#include "espalier/weights.h"

namespace espalier {

const std::string& NodeBuilder::name() const {
  return graph_.nodes_[static_cast<size_t>(node_)].name;
}

size_t NodeBuilder::input_count() const {
  return graph_.nodes_[static_cast<size_t>(node_)].inputs.size();
}

const Shape& NodeBuilder::input(size_t i) const {
  if (i >= input_count()) refuse("it needs at least " + std::to_string(i + 1) + " inputs");
  return graph_[graph_.nodes_[static_cast<size_t>(node_)].inputs[i]].shape;
}

Axis NodeBuilder::axis(size_t i) const {
  if (i >= axes_.size())
    refuse("it makes at least " + std::to_string(i + 1) + " axes, " + std::to_string(axes_.size()) + " were given");
  return axes_[i];
}

void NodeBuilder::refuse(const std::string& why) const {
  const Node& node = graph_.nodes_[static_cast<size_t>(node_)];
  std::string inputs;
  for (const Edge e : node.inputs) {
    inputs += (inputs.empty() ? "" : ", ") + ("'" + graph_[e].name + "' " + to_string(graph_.sizes(graph_[e].shape)));
  }
  throw Error("node '" + node.name + "' (" + node.op->type() + ") of inputs " + inputs + ": " + why);
}

void NodeBuilder::output(Shape shape, const std::string& suffix) {
  const Edge e = graph_.add_edge(suffix.empty() ? name() : name() + "." + suffix, std::move(shape), node_);
  graph_.nodes_[static_cast<size_t>(node_)].outputs.push_back(e);
}

ParamId NodeBuilder::parameter(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape,
                               Initializer init, double removed, Role role) {
  Parameter p;
  p.name = name() + "." + suffix;
  p.kind = kind;
  p.role = role;
  for (Dimension& d : shape) {
    p.shape.push_back(std::move(d.dim));
    p.input.push_back(d.input);
  }
  p.init = init;
  p.removed = removed;
  p.node = node_;
  const ParamId id = graph_.add_parameter(std::move(p));
  graph_.nodes_[static_cast<size_t>(node_)].parameters.push_back(id);
  return id;
}

ParamId NodeBuilder::buffer(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape,
                            double initial, double removed) {
  return parameter(suffix, kind, std::move(shape), {Initializer::Kind::constant, initial}, removed, Role::buffer);
}

const at::Tensor& Forward::parameter(size_t i) const {
  return weights[node.parameters[i]];
}

int64_t Operation::parameter_count(const Graph& graph, const Node& node) const {
  int64_t n = 0;
  for (const ParamId p : node.parameters) {
    if (graph[p].role != Role::buffer) n += graph.numel(graph[p].shape);
  }
  return n;
}

PythonForm Operation::python(const Graph&, const Node& node) const {
  throw Error("node '" + node.name + "': the operation '" + type() + "' has no Python form");
}

std::vector<std::string> Operation::onnx(OnnxNodes&, const Graph&, const Node& node) const {
  throw Error("node '" + node.name + "': the operation '" + type() + "' has no ONNX form");
}

OnnxNodes::~OnnxNodes() = default;

}  // namespace espalier
