#include "espalier/graph.h"

#include <algorithm>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/registry.h"
#include "espalier/rows.h"
#include "espalier/selector.h"

namespace espalier {

std::string to_string(const std::vector<int64_t>& sizes) {
  std::string s = "[";
  for (size_t i = 0; i < sizes.size(); ++i) s += (i ? ", " : "") + std::to_string(sizes[i]);
  return s + "]";
}

namespace {

template <class Items>
std::vector<std::string> names_of(const Items& items) {
  std::vector<std::string> names;
  for (const auto& i : items) names.push_back(i.name);
  return names;
}

template <class Items>
int32_t index_of(const Items& items, std::string_view name, const char* what) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].name == name) return static_cast<int32_t>(i);
  }
  throw Error("the network has no " + std::string(what) + " '" + std::string(name) + "'" +
              suggestion(name, names_of(items)));
}

}  // namespace

Axis Graph::axis(std::string_view name) const {
  return {index_of(axes_, name, "axis")};
}
ParamId Graph::parameter(std::string_view name) const {
  return {index_of(parameters_, name, "parameter")};
}
const Node& Graph::node(std::string_view name) const {
  return nodes_[static_cast<size_t>(index_of(nodes_, name, "node"))];
}
Edge Graph::output(std::string_view name) const {
  return outputs_[static_cast<size_t>(index_of(outputs_, name, "output"))].edge;
}

const Port* Graph::find_output(std::string_view name) const {
  for (const Port& p : outputs_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t Graph::size(const Segment& segment) const {
  int64_t n = 1;
  for (const Factor& f : segment.factors) {
    n *= f.axis.id < 0 ? f.constant : (*this)[f.axis].size;
  }
  return n;
}

int64_t Graph::size(const Dim& dim) const {
  int64_t n = 0;
  for (const Segment& s : dim.segments) n += size(s);
  return n;
}

std::vector<int64_t> Graph::sizes(const Shape& shape) const {
  std::vector<int64_t> result;
  for (const Dim& d : shape) result.push_back(size(d));
  return result;
}

int64_t Graph::numel(const Shape& shape) const {
  int64_t n = 1;
  for (const Dim& d : shape) n *= size(d);
  return n;
}

std::vector<Axis> Graph::axes(const Selector& selector) const {
  std::vector<Axis> result;
  for (const ParamId id : selector.match(*this)) {
    const Parameter& p = (*this)[id];
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (p.input[d]) continue;
      for (const Segment& s : p.shape[d].segments) {
        for (const Factor& f : s.factors) {
          if (f.axis.id < 0 || (*this)[f.axis].fixed) continue;
          if (std::ranges::find(result, f.axis) == result.end()) result.push_back(f.axis);
        }
      }
    }
  }
  return result;
}

std::vector<ParamId> Graph::producers(Axis axis) const {
  std::vector<ParamId> result;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    if (p.kind != "weight") continue;
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (!p.input[d] && p.shape[d].reads(axis)) {
        result.push_back({static_cast<int32_t>(i)});
        break;
      }
    }
  }
  return result;
}

std::vector<GateInfo> Graph::gates() const {
  std::vector<GateInfo> result;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].op->type() != "gate") continue;
    GateInfo gate;
    gate.node = static_cast<int32_t>(i);
    const EdgeInfo& coefficients = (*this)[nodes_[i].inputs[1]];
    const Dim& along = coefficients.shape[0];
    if (along.segments.size() == 1 && along.segments[0].factors.size() == 1)
      gate.axis = along.segments[0].factors[0].axis;
    if (coefficients.producer >= 0) {
      const Node& maker = nodes_[static_cast<size_t>(coefficients.producer)];
      if (maker.op->type() == "coefficient") gate.parameter = maker.parameters[0];
    }
    result.push_back(gate);
  }
  return result;
}

int64_t Graph::parameter_count(const Node& node) const {
  return node.op->parameter_count(*this, node);
}

int64_t Graph::parameter_count() const {
  int64_t n = 0;
  for (const Node& node : nodes_) n += parameter_count(node);
  return n;
}

int64_t Graph::macs(const Node& node) const {
  const int64_t macs = node.op->macs(*this, node);
  return macs == 0 ? 0 : macs * rows_for_a_sample(*this, node);
}

int64_t Graph::macs() const {
  int64_t n = 0;
  for (const Node& node : nodes_) n += macs(node);
  return n;
}

Axis Graph::add_axis(std::string name, int64_t size, bool fixed) {
  if (size < 1)
    throw Error("the axis '" + name + "' would have " + std::to_string(size) + " elements; at least 1 is needed");
  for (const AxisInfo& a : axes_) {
    if (a.name == name) throw Error("two axes are called '" + name + "'");
  }
  axes_.push_back({std::move(name), size, fixed});
  return {static_cast<int32_t>(axes_.size()) - 1};
}

Edge Graph::add_edge(std::string name, Shape shape, int32_t producer) {
  edges_.push_back({std::move(name), std::move(shape), producer});
  return {static_cast<int32_t>(edges_.size()) - 1};
}

Edge Graph::add_input(std::string name, Shape shape) {
  const Edge e = add_edge(name, std::move(shape), -1);
  inputs_.push_back({std::move(name), e});
  return e;
}

ParamId Graph::add_parameter(Parameter parameter) {
  for (const Parameter& p : parameters_) {
    if (p.name == parameter.name) throw Error("two parameters are called '" + p.name + "'");
  }
  parameters_.push_back(std::move(parameter));
  return {static_cast<int32_t>(parameters_.size()) - 1};
}

int32_t Graph::add_node(std::string name, std::shared_ptr<const Operation> op, std::vector<Edge> inputs,
                        std::vector<Axis> axes) {
  for (const Node& n : nodes_) {
    if (n.name == name) throw Error("two nodes of the network are called '" + name + "'");
  }
  const auto id = static_cast<int32_t>(nodes_.size());
  const Operation& operation = *op;
  nodes_.push_back({std::move(name), std::move(op), std::move(inputs), {}, {}});
  NodeBuilder builder(*this, id, axes);
  operation.build(builder);
  if (nodes_.back().outputs.empty()) builder.refuse("the operation declared no output");
  return id;
}

namespace {

// Every dimension of every edge and parameter.
template <class Body>
void for_each_dim(std::vector<EdgeInfo>& edges, std::vector<Parameter>& parameters, const Body& body) {
  for (EdgeInfo& e : edges) {
    for (Dim& d : e.shape) body(d);
  }
  for (Parameter& p : parameters) {
    for (Dim& d : p.shape) body(d);
  }
}

}  // namespace

Axis Graph::unify(Axis a, Axis b) {
  if (a == b) return a;
  const auto [keep, gone] = std::minmax({a, b});
  AxisInfo& kept = axes_[static_cast<size_t>(keep.id)];
  const AxisInfo& other = (*this)[gone];
  if (kept.size != other.size) {
    throw Error("the axes '" + kept.name + "' (" + std::to_string(kept.size) + ") and '" + other.name + "' (" +
                std::to_string(other.size) + ") cannot be one");
  }
  if (!kept.fixed && producers(keep).empty() && !producers(gone).empty()) kept.name = other.name;
  kept.fixed = kept.fixed || other.fixed;
  axes_.erase(axes_.begin() + gone.id);
  for_each_dim(edges_, parameters_, [keep = keep, gone = gone](Dim& d) {
    for (Segment& s : d.segments) {
      for (Factor& f : s.factors) {
        if (f.axis == gone) f.axis = keep;
        if (f.axis > gone) --f.axis.id;
      }
    }
  });
  return keep;
}

Axis Graph::factor(Axis axis, int64_t groups, std::string name) {
  const AxisInfo info = (*this)[axis];
  if (groups < 1 || info.size % groups != 0) {
    throw Error("the axis '" + info.name + "' (" + std::to_string(info.size) + " elements) cannot be split into " +
                std::to_string(groups) + " groups");
  }
  const Axis outer = add_axis(std::move(name), groups, info.fixed);
  resize(axis, info.size / groups);
  for_each_dim(edges_, parameters_, [&](Dim& d) {
    for (Segment& s : d.segments) {
      for (size_t i = 0; i < s.factors.size(); ++i) {
        if (s.factors[i].axis != axis) continue;
        s.factors.insert(s.factors.begin() + static_cast<std::ptrdiff_t>(i), Factor{outer, 1});
        ++i;
      }
    }
  });
  return outer;
}

void Graph::replace_operation(int32_t node, std::shared_ptr<const Operation> op) {
  nodes_[static_cast<size_t>(node)].op = std::move(op);
}

}  // namespace espalier
