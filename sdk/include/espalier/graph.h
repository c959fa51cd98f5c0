#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/api.h"
#include "espalier/shape.h"
#include "espalier/value.h"

namespace espalier {

class Operation;
class Selector;

// A width. Layers whose widths must agree share one.
struct AxisInfo {
  std::string name;
  int64_t size = 0;
  bool fixed = false;  // given from outside (input channels, classes): edits refuse it
};

// Which arena holds a parameter.
enum class Role { weight, architecture, buffer };

// How a parameter is first filled, and its new slices after growth.
struct Initializer {
  enum class Kind {
    constant,         // a
    uniform,          // [-a, a]
    normal,           // mean 0, standard deviation a
    kaiming_uniform,  // [-b, b], b = sqrt(6 / ((1 + a^2) fan_in)); a = sqrt(5) is PyTorch's default of conv and linear
    kaiming_normal_in,   // standard deviation sqrt(2 / fan_in)
    kaiming_normal_out,  // standard deviation sqrt(2 / fan_out)
    xavier_uniform,      // [-b, b], b = sqrt(6 / (fan_in + fan_out))
    bias_by_fan_in,      // [-b, b], b = 1 / sqrt(fan_in of the node's first parameter): PyTorch's default bias
  };
  Kind kind = Kind::constant;
  double a = 0;
};

// A tensor of values that a node owns. `kind` is an open word that selectors and exports go by: "weight", "bias",
// "norm_weight", "norm_bias", "running_mean", "running_var", "gate", "architecture", ...
struct Parameter {
  std::string name;  // "conv1.weight"
  std::string kind;
  Role role = Role::weight;
  Shape shape;
  std::vector<bool>
      input;  // for each dimension: it reads the node's input (a consumer's columns), rather than makes its output
  Initializer init;
  double removed = 0;  // what slices hold just before removal: with it the structure gives zero
  int32_t node = -1;
};

struct Node {
  std::string name;
  std::shared_ptr<const Operation> op;
  std::vector<Edge> inputs;
  std::vector<Edge> outputs;
  std::vector<ParamId> parameters;  // in the order in which the operation declared them
};

struct EdgeInfo {
  std::string name;
  Shape shape;            // without the batch
  int32_t producer = -1;  // node, -1 for the graph's inputs
};

struct Port {
  std::string name;
  Edge edge;
};

// A place where coefficients multiply the positions along a width (the operation `gate`).
struct GateInfo {
  int32_t node = -1;  // the gate
  ParamId parameter;  // its free coefficients; -1 where something else computes them
  Axis axis;          // along which they lie; -1 where it is no single axis
};

// A network's structure, as data: nodes are operations, edges are tensors; no tensor values. Nodes stand in an order in
// which they can be run.
class ESPALIER_API Graph {
 public:
  const std::vector<AxisInfo>& axes() const { return axes_; }
  const std::vector<EdgeInfo>& edges() const { return edges_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const std::vector<Port>& inputs() const { return inputs_; }
  // "logits", "loss", ...
  const std::vector<Port>& outputs() const { return outputs_; }

  const AxisInfo& operator[](Axis a) const { return axes_[static_cast<size_t>(a.id)]; }
  const EdgeInfo& operator[](Edge e) const { return edges_[static_cast<size_t>(e.id)]; }
  const Parameter& operator[](ParamId p) const { return parameters_[static_cast<size_t>(p.id)]; }
  // Each throws Error naming the nearest known name.
  Axis axis(std::string_view name) const;
  ParamId parameter(std::string_view name) const;
  const Node& node(std::string_view name) const;
  Edge output(std::string_view name) const;
  const Port* find_output(std::string_view name) const;

  int64_t size(const Segment& segment) const;
  int64_t size(const Dim& dim) const;
  std::vector<int64_t> sizes(const Shape& shape) const;
  int64_t numel(const Shape& shape) const;

  // The axes that edits may change among those which the selected parameters produce, in order; all where the selector
  // is empty.
  std::vector<Axis> axes(const Selector& selector) const;
  // The weights (kind "weight") of which an output dimension reads the axis: those whose slices are its filters or
  // units.
  std::vector<ParamId> producers(Axis axis) const;

  // All gates, in the graph's order.
  std::vector<GateInfo> gates() const;

  // Trainable numbers, of all or of one node; what lies outside of cropped kernels does not count.
  int64_t parameter_count() const;
  int64_t parameter_count(const Node& node) const;
  // Multiply-accumulates of one sample: convolutions, linear layers and attention products.
  int64_t macs() const;
  int64_t macs(const Node& node) const;

  // The same structure as JSON-like data (schema version 1), and back.
  Value to_value() const;
  static Graph from_value(const Value& value);

  // ---- how builders and edits change it ----
  Axis add_axis(std::string name, int64_t size, bool fixed = false);
  Edge add_input(std::string name, Shape shape);
  // Appends a node: the operation infers its outputs and declares its parameters. `axes` are those that it makes.
  // Throws Error where inputs do not fit, naming node and shapes.
  int32_t add_node(std::string name, std::shared_ptr<const Operation> op, std::vector<Edge> inputs,
                   std::vector<Axis> axes = {});
  Edge add_edge(std::string name, Shape shape, int32_t producer);
  ParamId add_parameter(Parameter parameter);
  void add_output(std::string name, Edge edge) { outputs_.push_back({std::move(name), edge}); }
  void resize(Axis axis, int64_t size) { axes_[static_cast<size_t>(axis.id)].size = size; }
  void fix(Axis axis) { axes_[static_cast<size_t>(axis.id)].fixed = true; }
  // Makes two axes of equal size one: the older stays (named after one that a layer makes), fixed where either was.
  // Numbers of axes change, so only builders may call it, while nothing else refers to the graph.
  Axis unify(Axis a, Axis b);
  // Splits an axis into (a new axis of `groups`) x (the axis, of size / groups) wherever it is read; gives the new one.
  // Only for builders. Throws Error where the groups do not divide it.
  Axis factor(Axis axis, int64_t groups, std::string name);
  void replace_operation(int32_t node, std::shared_ptr<const Operation> op);
  std::vector<EdgeInfo>& mutable_edges() { return edges_; }
  std::vector<Parameter>& mutable_parameters() { return parameters_; }

 private:
  friend class NodeBuilder;
  friend class Draft;
  std::vector<AxisInfo> axes_;
  std::vector<EdgeInfo> edges_;
  std::vector<Node> nodes_;
  std::vector<Parameter> parameters_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
};

// "[20, 24, 24]"
ESPALIER_API std::string to_string(const std::vector<int64_t>& sizes);

}  // namespace espalier
