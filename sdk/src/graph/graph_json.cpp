// A graph as data, which is read and written as JSON.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/operation.h"
#include "espalier/registry.h"

namespace espalier {

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
        s.factors.push_back(f);
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
