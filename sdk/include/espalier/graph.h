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
  std::string name;    // that of the layer which makes it
  int64_t size = 0;    // how many positions it has
  bool fixed = false;  // given from outside (input channels, classes), so edits refuse it
};

// What a parameter is to the training. Each role has arenas of its own.
enum class Role {
  weight,        // trained from the loss
  architecture,  // a coefficient of the structure, trained by itself if the method wants so
  buffer         // not trained: running statistics
};

// How a parameter is filled at first, and its new slices after growth. fan_in and fan_out are those of the parameter.
struct Initializer {
  // The distribution, in which `a` is the number below.
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
  Kind kind = Kind::constant;  // the distribution
  double a = 0;                // the number that the kind uses: a value, a bound, a standard deviation or a slope
};

// A tensor of values that a node owns. `kind` is an open word that selectors and exports go by: "weight", "bias",
// "norm_weight", "norm_bias", "running_mean", "running_var", "gate", "architecture", "competition", ...
struct Parameter {
  std::string name;  // "conv1.weight"
  std::string kind;  // "weight"
  // What it is to the training.
  Role role = Role::weight;
  // Its dimensions, which read axes.
  Shape shape;
  // For each dimension, whether it reads the input of the node (a weight's columns) rather than makes its output.
  std::vector<bool> input;
  // How it is filled at first.
  Initializer init;
  // What slices hold just before they are removed. With this value the structure gives zero: 0 for most, 1 for a
  // running variance.
  double removed = 0;
  int32_t node = -1;  // the node that owns it, by its place in nodes()
};

// One operation in a graph.
struct Node {
  std::string name;                     // "layer1.0.conv1"
  std::shared_ptr<const Operation> op;  // what it computes
  std::vector<Edge> inputs;             // in the order in which the operation takes them
  std::vector<Edge> outputs;            // in the order in which the operation declared them
  std::vector<ParamId> parameters;      // in the order in which the operation declared them
};

// A tensor that flows between nodes.
struct EdgeInfo {
  std::string name;       // that of the node which makes it
  Shape shape;            // without the batch
  int32_t producer = -1;  // the node that makes it, by its place in nodes(); -1 for the graph's inputs
};

// A named input or output of a graph.
struct Port {
  std::string name;  // "input", "logits"
  Edge edge;         // the tensor
};

// A place where coefficients multiply the positions along a width (the operation `gate`).
struct GateInfo {
  int32_t node = -1;  // the gate
  ParamId parameter;  // its free coefficients; -1 if something else computes them
  Axis axis;          // along which they lie; -1 if they lie along more than one
};

// The structure of a network as data: nodes are operations, edges are tensors, and there are no values. Nodes stand in
// topological order.
class ESPALIER_API Graph {
 public:
  // Returns all axes; the place of one is the id of its handle.
  const std::vector<AxisInfo>& axes() const { return axes_; }
  // Returns all edges; the place of one is the id of its handle.
  const std::vector<EdgeInfo>& edges() const { return edges_; }
  // Returns all nodes in topological order.
  const std::vector<Node>& nodes() const { return nodes_; }
  // Returns all parameters and buffers; the place of one is the id of its handle.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  // Returns the inputs: "input" and others.
  const std::vector<Port>& inputs() const { return inputs_; }
  // Returns the outputs: "logits" and others.
  const std::vector<Port>& outputs() const { return outputs_; }

  // Returns what an axis is.
  const AxisInfo& operator[](Axis a) const { return axes_[static_cast<size_t>(a.id)]; }
  // Returns what an edge is.
  const EdgeInfo& operator[](Edge e) const { return edges_[static_cast<size_t>(e.id)]; }
  // Returns what a parameter is.
  const Parameter& operator[](ParamId p) const { return parameters_[static_cast<size_t>(p.id)]; }

  // Returns the axis of this name. Throws Error with the nearest known name if there is none.
  Axis axis(std::string_view name) const;
  // Returns the parameter or buffer of this name. Throws Error with the nearest known name if there is none.
  ParamId parameter(std::string_view name) const;
  // Returns the node of this name. Throws Error with the nearest known name if there is none.
  const Node& node(std::string_view name) const;
  // Returns the edge of the output of this name. Throws Error with the nearest known name if there is none.
  Edge output(std::string_view name) const;
  // Returns the output of this name, or null.
  const Port* find_output(std::string_view name) const;

  // Returns how many positions a segment has: the product of its factors.
  int64_t size(const Segment& segment) const;
  // Returns how many positions a dimension has: the sum of its segments.
  int64_t size(const Dim& dim) const;
  // Returns the sizes of all dimensions.
  std::vector<int64_t> sizes(const Shape& shape) const;
  // Returns how many elements a tensor of this shape has, without a batch.
  int64_t numel(const Shape& shape) const;

  // Returns the axes that edits may change among those that the selected parameters make, in order. An empty selector
  // selects all parameters.
  std::vector<Axis> axes(const Selector& selector) const;
  // Returns the weights (kind "weight") of which an output dimension reads the axis: their slices are its filters or
  // units.
  std::vector<ParamId> producers(Axis axis) const;

  // Returns all gates, in topological order.
  std::vector<GateInfo> gates() const;

  // Returns how many trainable numbers there are. What lies outside of cropped kernels does not count.
  int64_t parameter_count() const;
  // Returns how many trainable numbers a node has.
  int64_t parameter_count(const Node& node) const;
  // Returns the multiply-accumulates of one sample: of convolutions, linear layers and products of attention.
  int64_t macs() const;
  // Returns the multiply-accumulates of a node.
  int64_t macs(const Node& node) const;

  // Returns the structure as JSON-like data (schema version 1).
  Value to_value() const;
  // Reads what to_value() returned. Throws InputError if it is not a graph or of another schema.
  static Graph from_value(const Value& value);

  // ---- how builders and edits change it ----
  // Adds an axis.
  Axis add_axis(std::string name, int64_t size, bool fixed = false);
  // Adds an input with its shape without the batch.
  Edge add_input(std::string name, Shape shape);
  // Appends a node: the operation infers its outputs and declares its parameters. `axes` are those that it makes.
  // Returns its place in nodes(). Throws Error with node and shapes if inputs do not fit.
  int32_t add_node(std::string name, std::shared_ptr<const Operation> op, std::vector<Edge> inputs,
                   std::vector<Axis> axes = {});
  // Adds an edge that a node makes. NodeBuilder calls it.
  Edge add_edge(std::string name, Shape shape, int32_t producer);
  // Adds a parameter. NodeBuilder calls it. Throws Error if the name is taken.
  ParamId add_parameter(Parameter parameter);
  // Names an edge as an output.
  void add_output(std::string name, Edge edge) { outputs_.push_back({std::move(name), edge}); }
  // Sets the size of an axis; values are not touched.
  void resize(Axis axis, int64_t size) { axes_[static_cast<size_t>(axis.id)].size = size; }
  // Makes an axis one that edits refuse.
  void fix(Axis axis) { axes_[static_cast<size_t>(axis.id)].fixed = true; }
  // Makes two axes of equal size one and returns it. The older one stays (named after one that a layer makes), fixed if
  // either was. Numbers of axes change, so only builders may call it, while nothing else refers to the graph.
  Axis unify(Axis a, Axis b);
  // Splits an axis into (a new axis of `groups`) x (the axis, of size / groups) wherever it is read, and returns the
  // new one. Only for builders. Throws Error if the groups do not divide the size.
  Axis factor(Axis axis, int64_t groups, std::string name);
  // Puts another operation into a node; its outputs and parameters must be the same.
  void replace_operation(int32_t node, std::shared_ptr<const Operation> op);
  // Returns the edges for changes in place.
  std::vector<EdgeInfo>& mutable_edges() { return edges_; }
  // Returns the parameters for changes in place.
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

// Returns sizes as text: "[20, 24, 24]".
ESPALIER_API std::string to_string(const std::vector<int64_t>& sizes);

}  // namespace espalier
