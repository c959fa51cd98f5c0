#include "espalier/graph.h"

#include <algorithm>
#include <cmath>
#include <set>

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

// ---- as data ----

namespace {

constexpr int64_t schema = 1;

const char* role_name(Role r) {
  return r == Role::weight ? "weight" : r == Role::architecture ? "architecture" : "buffer";
}

Role role_of(const Value& v) {
  for (const Role r : {Role::weight, Role::architecture, Role::buffer}) {
    if (v.as_string() == role_name(r)) return r;
  }
  throw InputError(v.location.str(), "unknown role " + v.describe());
}

constexpr const char* init_names[] = {"constant",        "uniform",           "normal",
                                      "kaiming_uniform", "kaiming_normal_in", "kaiming_normal_out",
                                      "xavier_uniform",  "bias_by_fan_in"};

// A dimension: a list of segments, each a list of factors: 4 or "conv1".
Value dim_value(const Graph& g, const Dim& dim) {
  Value segments = Value::list();
  for (const Segment& s : dim.segments) {
    Value factors = Value::list();
    for (const Factor& f : s.factors) {
      factors.push_back(f.axis.id < 0 ? Value(f.constant) : Value(g[f.axis].name));
    }
    segments.push_back(std::move(factors));
  }
  return segments;
}

Value shape_value(const Graph& g, const Shape& shape) {
  Value v = Value::list();
  for (const Dim& d : shape) v.push_back(dim_value(g, d));
  return v;
}

// What a file may say of a size: more than any network has is a mistake, and products of them must be countable.
constexpr int64_t most_positions = (int64_t{1} << 31) - 1;
constexpr double most_elements = 1e15;

int64_t checked_size(const Value& v, int64_t least, const std::string& what) {
  const int64_t n = v.as_int();
  if (n < least || n > most_positions)
    throw InputError(v.location.str(), what + " is " + std::to_string(n) + ", expected " + std::to_string(least) +
                                           " to " + std::to_string(most_positions));
  return n;
}

Shape shape_of(const Graph& g, const Value& v) {
  Shape shape;
  for (const Value& dim : v.as_list()) {
    Dim d;
    for (const Value& segment : dim.as_list()) {
      Segment s;
      for (const Value& factor : segment.as_list()) {
        Factor f;
        if (factor.is_number()) {
          f.constant = checked_size(factor, 0, "a constant of a shape");
        } else {
          f.axis = g.axis(factor.as_string());
        }
        s.factors.push_back(std::move(f));
      }
      d.segments.push_back(std::move(s));
    }
    shape.push_back(std::move(d));
  }
  return shape;
}

double checked_number(const Value& v, const std::string& what) {
  const double n = v.as_double();
  if (!std::isfinite(n)) throw InputError(v.location.str(), what + " is no finite number");
  return n;
}

// Sizes that were written beside a shape, for readers of the file: they must be what the shape gives.
void check_sizes(const Graph& g, const Shape& shape, const Value& written, const std::string& what) {
  double elements = 1;
  for (const Dim& d : shape) {
    double positions = 0;
    for (const Segment& s : d.segments) {
      double product = 1;
      for (const Factor& f : s.factors) product *= static_cast<double>(f.axis.id < 0 ? f.constant : g[f.axis].size);
      positions += product;
    }
    elements *= std::max(positions, 1.0);
  }
  if (elements > most_elements) throw InputError("", what + " has more elements than any memory holds");
  if (!(Value(g.sizes(shape)) == written)) {
    throw InputError(written.location.str(), what + " has the sizes " + to_json(written) + ", and its shape gives " +
                                                 to_string(g.sizes(shape)));
  }
}

int32_t checked_index(const Value& v, size_t count, const char* what) {
  const int64_t i = v.as_int();
  if (i < 0 || i >= static_cast<int64_t>(count))
    throw InputError(v.location.str(), std::string("no such ") + what + ": " + std::to_string(i));
  return static_cast<int32_t>(i);
}

// Nodes read what the graph is given or what nodes before them made.
void check_order(const Graph& g, const Value& inputs) {
  std::vector<bool> made(g.edges().size(), false);
  for (const Value::Entry& e : inputs.as_map())
    made[static_cast<size_t>(checked_index(e.value, made.size(), "edge"))] = true;
  for (const Node& n : g.nodes()) {
    for (const Edge e : n.inputs) {
      if (!made[static_cast<size_t>(e.id)])
        throw InputError("", "node '" + n.name + "' reads '" + g[e].name + "', which no node before it makes");
    }
    for (const Edge e : n.outputs) made[static_cast<size_t>(e.id)] = true;
  }
}

std::vector<const Value*> counts_of(const Value& graph) {
  std::vector<const Value*> all{&graph.at("parameter_count"), &graph.at("macs")};
  for (const Value& n : graph.at("nodes").as_list()) all.push_back(&n.at("macs"));
  return all;
}

}  // namespace

Value Graph::to_value() const {
  Value axes = Value::list();
  for (const AxisInfo& a : axes_) axes.push_back(Value::map({{"name", a.name}, {"size", a.size}, {"fixed", a.fixed}}));
  Value edges = Value::list();
  for (const EdgeInfo& e : edges_) {
    edges.push_back(Value::map({{"name", e.name},
                                {"shape", shape_value(*this, e.shape)},
                                {"sizes", sizes(e.shape)},
                                {"producer", e.producer}}));
  }
  Value parameters = Value::list();
  for (const Parameter& p : parameters_) {
    Value input = Value::list();
    for (const bool b : p.input) input.push_back(b);
    parameters.push_back(
        Value::map({{"name", p.name},
                    {"kind", p.kind},
                    {"role", role_name(p.role)},
                    {"shape", shape_value(*this, p.shape)},
                    {"sizes", sizes(p.shape)},
                    {"input", input},
                    {"init", Value::map({{"kind", init_names[static_cast<int>(p.init.kind)]}, {"a", p.init.a}})},
                    {"removed", p.removed},
                    {"node", p.node}}));
  }
  Value nodes = Value::list();
  for (const Node& n : nodes_) {
    Value inputs = Value::list();
    Value outputs = Value::list();
    Value owned = Value::list();
    for (const Edge e : n.inputs) inputs.push_back(e.id);
    for (const Edge e : n.outputs) outputs.push_back(e.id);
    for (const ParamId p : n.parameters) owned.push_back(p.id);
    nodes.push_back(Value::map({{"name", n.name},
                                {"operation", n.op->type()},
                                {"options", n.op->options()},
                                {"inputs", inputs},
                                {"outputs", outputs},
                                {"parameters", owned},
                                {"macs", macs(n)}}));
  }
  const auto ports = [](const std::vector<Port>& list) {
    Value v = Value::map();
    for (const Port& p : list) v[p.name] = p.edge.id;
    return v;
  };
  return Value::map({{"schema", schema},
                     {"parameter_count", parameter_count()},
                     {"macs", macs()},
                     {"inputs", ports(inputs_)},
                     {"outputs", ports(outputs_)},
                     {"axes", axes},
                     {"edges", edges},
                     {"parameters", parameters},
                     {"nodes", nodes}});
}

Graph Graph::from_value(const Value& value) {
  if (value.at("schema").as_int() != schema) {
    throw InputError(value.location.str(),
                     "graph schema " + to_json(value.at("schema")) + ", this program reads " + std::to_string(schema));
  }
  Graph g;
  for (const Value& a : value.at("axes").as_list()) {
    const std::string& name = a.at("name").as_string();
    g.add_axis(name, checked_size(a.at("size"), 0, "the size of axis '" + name + "'"), a.at("fixed").as_bool());
  }
  const auto node_count = value.at("nodes").size();
  for (const Value& e : value.at("edges").as_list()) {
    const int32_t producer = e.at("producer").as_int() < 0 ? -1 : checked_index(e.at("producer"), node_count, "node");
    const std::string& name = e.at("name").as_string();
    Shape shape = shape_of(g, e.at("shape"));
    check_sizes(g, shape, e.at("sizes"), "edge '" + name + "'");
    g.add_edge(name, std::move(shape), producer);
  }
  for (const Value& p : value.at("parameters").as_list()) {
    Parameter q;
    q.name = p.at("name").as_string();
    q.kind = p.at("kind").as_string();
    q.role = role_of(p.at("role"));
    q.shape = shape_of(g, p.at("shape"));
    check_sizes(g, q.shape, p.at("sizes"), "parameter '" + q.name + "'");
    for (const Value& b : p.at("input").as_list()) q.input.push_back(b.as_bool());
    if (q.input.size() != q.shape.size())
      throw InputError("", "parameter '" + q.name + "': 'input' and 'shape' differ in length");
    const Value& kind = p.at("init").at("kind");
    const auto* found = std::ranges::find(init_names, kind.as_string());
    if (found == std::end(init_names))
      throw InputError("", "parameter '" + q.name + "': unknown initializer " + kind.describe());
    const double a = checked_number(p.at("init").at("a"), "the initializer's number of parameter '" + q.name + "'");
    q.init = {static_cast<Initializer::Kind>(found - std::begin(init_names)), a};
    q.removed = checked_number(p.at("removed"), "'removed' of parameter '" + q.name + "'");
    q.node = checked_index(p.at("node"), node_count, "node");
    g.add_parameter(std::move(q));
  }
  for (const Value& n : value.at("nodes").as_list()) {
    Value spec = n.at("options");
    spec["use"] = n.at("operation");
    Node node;
    node.name = n.at("name").as_string();
    node.op = Registry::instance().create<Operation>(spec);
    for (const Value& e : n.at("inputs").as_list()) node.inputs.push_back({checked_index(e, g.edges_.size(), "edge")});
    for (const Value& e : n.at("outputs").as_list())
      node.outputs.push_back({checked_index(e, g.edges_.size(), "edge")});
    for (const Value& p : n.at("parameters").as_list())
      node.parameters.push_back({checked_index(p, g.parameters_.size(), "parameter")});
    g.nodes_.push_back(std::move(node));
  }
  check_order(g, value.at("inputs"));
  for (const Value::Entry& e : value.at("inputs").as_map())
    g.inputs_.push_back({e.key, {checked_index(e.value, g.edges_.size(), "edge")}});
  for (const Value::Entry& e : value.at("outputs").as_map())
    g.outputs_.push_back({e.key, {checked_index(e.value, g.edges_.size(), "edge")}});
  // Counts are written for readers of the file; how they are counted may change.
  for (const Value* count : counts_of(value)) {
    if (count->as_int() < 0)
      throw InputError(count->location.str(), "a count of parameters or multiply-accumulates is " + to_json(*count));
  }
  return g;
}

}  // namespace espalier
