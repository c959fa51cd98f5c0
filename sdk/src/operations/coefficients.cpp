// Coefficients that multiply channels or whole components: [1, ...] where they are made of free parameters alone, one
// for all samples; [batch, ...] where they depend on the sample (squeeze-and-excitation, routers).
#include "operations/coefficients.h"

#include <algorithm>
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>

#include "builtin.h"
#include "constants.h"
#include "espalier/error.h"
#include "espalier/onnx.h"
#include "espalier/rewrite.h"
#include "espalier/weights.h"
#include "fast_mixture.h"

namespace espalier {

namespace {

// [batch], then for each factor of to's segment: its size.
std::vector<int64_t> factor_sizes(const Graph& g, const Dim& to, int64_t batch) {
  std::vector<int64_t> sizes{batch};
  for (const Factor& f : to.segments[0].factors) sizes.push_back(g.size(Segment{{f}}));
  return sizes;
}

// [batch], then for each factor of to's segment: its size where it is one of from's, in order, or 1.
std::vector<int64_t> view_sizes(const Graph& g, const Dim& from, const Dim& to) {
  std::vector<int64_t> sizes{-1};
  size_t next = 0;
  const std::vector<Factor>& mine = from.segments[0].factors;
  for (const Factor& f : to.segments[0].factors) {
    const bool has = next < mine.size() && mine[next] == f;
    next += has;
    sizes.push_back(has ? g.size(Segment{{f}}) : 1);
  }
  return sizes;
}

std::string list(const std::vector<int64_t>& v) {
  std::string s;
  for (const int64_t i : v) s += (s.empty() ? "" : ", ") + std::to_string(i);
  return "[" + s + "]";
}

struct CoefficientOptions {
  double initial = 1;
  double deviation = 0;
  std::string role = "architecture";

  static void declare(Declare<CoefficientOptions>& p) {
    p("initial", &CoefficientOptions::initial, "Initial value.");
    p("deviation", &CoefficientOptions::deviation, at_least(0),
      "Standard deviation of random initial values about 0, instead of `initial`.");
    p("role", &CoefficientOptions::role, one_of({"weight", "architecture"}),
      "Role of the parameter, which decides what optimizers it is for.");
  }
};

// Free parameters, one for each position of the axes that it is given.
class Coefficient final : public OperationOf<Coefficient, CoefficientOptions> {
 public:
  static constexpr const char* name = "coefficient";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    Shape shape;
    std::vector<NodeBuilder::Dimension> dimensions;
    for (size_t i = 0; i < std::max<size_t>(n.axis_count(), 1); ++i) {
      shape.push_back(Dim::of(n.axis(i)));
      dimensions.push_back(NodeBuilder::makes(shape.back()));
    }
    const Initializer init = o_.deviation > 0 ? Initializer{Initializer::Kind::normal, o_.deviation}
                                              : Initializer{Initializer::Kind::constant, o_.initial};
    n.parameter("value", "gate", std::move(dimensions), init, 0,
                o_.role == "weight" ? Role::weight : Role::architecture);
    n.output(std::move(shape));
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.parameter(0).unsqueeze(0)}; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"{p0}.unsqueeze(0)"}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.constant(to.values(0).unsqueeze(0))};
  }
};

struct GateOptions {
  int64_t dim = 0;
  std::vector<int64_t> index;

  static void declare(Declare<GateOptions>& p) {
    p("dim", &GateOptions::dim, at_least(0),
      "Dimension of the first input that is multiplied, counted without the batch.");
    p("index", &GateOptions::index,
      "Position of the coefficient of each position along the dimension, so that several share one. Left out: each has "
      "its own, in order.");
  }
};

// The first input times the coefficients (second input), one for each position along a dimension, or along one of its
// axes, or as an index says; the same for all samples, or each sample's own.
class Gate final : public OperationOf<Gate, GateOptions>, public ChannelGate {
 public:
  static constexpr const char* name = "gate";
  explicit Gate(GateOptions o = {}) : OperationOf<Gate, GateOptions>(std::move(o)) {}

  void build(NodeBuilder& n) const override {
    const Shape& x = n.input(0);
    const Shape& c = n.input(1);
    const bool fits = dim() < x.size() && c.size() == 1 &&
                      (o_.index.empty() ? spreads(n.graph(), c[0], x[dim()])
                                        : static_cast<int64_t>(o_.index.size()) == n.input_sizes(0)[dim()]);
    if (!fits) n.refuse("the coefficients do not belong to dimension " + std::to_string(o_.dim) + " of the input");
    for (const int64_t i : o_.index) {
      if (i < 0 || i >= n.input_sizes(1)[0]) n.refuse("there is no coefficient " + std::to_string(i));
    }
    n.output(x);
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const Shape& x = f.graph[f.node.inputs[0]].shape;
    return {f.inputs[0] * along_dimension(f.graph, f.node, f.inputs[1]).reshape(broadcast(f.graph, x))};
  }
  at::Tensor along_dimension(const Graph& g, const Node& node, const at::Tensor& coefficients) const override {
    if (o_.index.empty()) return spread(g, coefficients, g[node.inputs[1]].shape[0], g[node.inputs[0]].shape[dim()]);
    const at::Tensor index = constants_.get({0}, coefficients.device(), at::kLong, [&] { return integers(o_.index); });
    return coefficients.index_select(1, index);
  }
  size_t dimension() const override { return dim(); }
  const std::vector<int64_t>& index() const override { return o_.index; }

  // In front of a linear layer the coefficients may as well multiply its columns: with more samples than features that
  // is less to multiply, in both directions, and no gradient of the gated samples is made for the coefficients' sake.
  Fused forward_chain(const Forward& f, const std::vector<Link>& chain) const override {
    const at::Tensor& x = f.inputs[0];
    const at::Tensor& c = f.inputs[1];
    const Node& next = chain[0].node;
    if (!o_.index.empty() || next.op->type() != "linear" || x.dim() != 2 || c.size(0) != 1 || c.numel() != x.size(1))
      return {};
    if (at::autocast::is_autocast_enabled(at::kCPU) || at::autocast::is_autocast_enabled(at::kCUDA)) return {};
    const at::Tensor weight = f.weights[next.parameters[0]];
    if (x.size(0) <= weight.size(0) || x.scalar_type() != weight.scalar_type()) return {};
    const at::Tensor bias = next.parameters.size() > 1 ? f.weights[next.parameters[1]] : at::Tensor();
    return {at::linear(x, weight * c, bias), 1};
  }
  std::shared_ptr<const Operation> follow(const Graph& before, const Node& node,
                                          const std::vector<AxisChange>& changes) const override {
    if (o_.index.empty()) return nullptr;
    const auto along = gather(before, before[node.inputs[0]].shape[dim()], changes);
    const auto coefficients = gather(before, before[node.inputs[1]].shape[0], changes);
    if (!along && !coefficients) return nullptr;
    GateOptions o = o_;
    if (along) {
      o.index.clear();
      for (const int64_t i : *along) {
        if (i < 0) {
          throw EditError("the gate '" + node.name +
                          "' says by an index which coefficient a position has, and a new position would have none");
        }
        o.index.push_back(o_.index[static_cast<size_t>(i)]);
      }
    }
    for (int64_t& i : o.index) {
      if (!coefficients) break;
      const auto at = std::ranges::find(*coefficients, i);
      if (at == coefficients->end())
        throw EditError("the gate '" + node.name + "' needs the coefficient that would go");
      i = at - coefficients->begin();
    }
    return std::make_shared<Gate>(std::move(o));
  }
  bool preserves_zero() const override { return true; }
  bool multiplies_inputs() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    const Shape& x = g[node.inputs[0]].shape;
    const Dim& from = g[node.inputs[1]].shape[0];
    std::string c = "{1}";
    if (!o_.index.empty()) {
      c += ".index_select(1, torch.tensor(" + list(o_.index) + ", device={1}.device))";
    } else if (!(from == x[dim()])) {
      c += ".reshape(" + list(view_sizes(g, from, x[dim()])) + ").expand(" + list(factor_sizes(g, x[dim()], -1)) + ")";
    }
    return {"({0} * " + c + ".reshape(" + list(broadcast(g, x)) + "))"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const Shape& x = g[node.inputs[0]].shape;
    const Dim& from = g[node.inputs[1]].shape[0];
    std::string c = to.input(1);
    const auto shape = [&](const std::vector<int64_t>& v) { return to.constant(at::tensor(v, at::kLong)); };
    if (!o_.index.empty()) {
      c = to.add("Gather", {c, shape(o_.index)}, {{"axis", int64_t{1}}});
    } else if (!(from == x[dim()])) {
      // ONNX's Expand keeps a dimension where it is told 1.
      c = to.add("Expand",
                 {to.add("Reshape", {c, shape(view_sizes(g, from, x[dim()]))}), shape(factor_sizes(g, x[dim()], 1))});
    }
    return {to.add("Mul", {to.input(0), to.add("Reshape", {c, shape(broadcast(g, x))})})};
  }

 private:
  size_t dim() const { return static_cast<size_t>(o_.dim); }
  // [batch (1 or that of the input), 1, ..., size, ..., 1]
  std::vector<int64_t> broadcast(const Graph& g, const Shape& x) const {
    std::vector<int64_t> sizes(x.size() + 1, 1);
    sizes[0] = -1;
    sizes[dim() + 1] = g.size(x[dim()]);
    return sizes;
  }
  DeviceConstants constants_;
};

struct WeightedSumOptions {
  std::vector<int64_t> components;
  int64_t row = -1;

  static void declare(Declare<WeightedSumOptions>& p) {
    p("components", &WeightedSumOptions::components,
      "Position of the coefficient of each input. Left out: one for each, in order.");
    p("row", &WeightedSumOptions::row, at_least(-1),
      "Row of the coefficients that belongs to this node; -1: there is only one row.");
  }
};

// The inputs but the last, each times its coefficient (the last input), summed: a mixed operation, or components that
// compete. Several may share a matrix of coefficients, with a row each. A component that is dropped leaves its
// coefficient behind, since the others' may depend on it.
class WeightedSum final : public OperationOf<WeightedSum, WeightedSumOptions>, public Mixture, public OfTerms {
 public:
  static constexpr const char* name = "weighted_sum";
  explicit WeightedSum(WeightedSumOptions o = {}) : OperationOf<WeightedSum, WeightedSumOptions>(std::move(o)) {}

  void build(NodeBuilder& n) const override {
    if (n.input_count() < 2) n.refuse("a weighted sum needs its components and their coefficients");
    const size_t terms = n.input_count() - 1;
    const std::vector<int64_t> c = n.input_sizes(terms);
    if (c.size() != (o_.row < 0 ? 1 : 2))
      n.refuse("the last input must be the coefficients, one for each component, or (with `row`) rows of them");
    if (o_.row >= 0 && o_.row >= c[0]) n.refuse("there is no row " + std::to_string(o_.row) + " of coefficients");
    const size_t expected = o_.components.empty() ? static_cast<size_t>(c.back()) : o_.components.size();
    if (expected != terms)
      n.refuse(std::to_string(terms) + " components, but " + std::to_string(expected) + " coefficients for them");
    for (const int64_t i : o_.components) {
      if (i < 0 || i >= c.back()) n.refuse("there is no coefficient " + std::to_string(i));
    }
    const Shape x = n.input(0);
    for (size_t i = 1; i < terms; ++i) {
      if (n.input(i) != x) n.refuse("the components must have one shape and share their widths");
    }
    n.output(x);
  }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {mixed(f, {})}; }

  bool takes_terms(const at::Tensor& coefficients) const override {
    return coefficients.size(0) == 1 && coefficients.is_cpu() && coefficients.scalar_type() == at::kFloat;
  }
  at::Tensor forward_terms(const Forward& f, const std::vector<const Node*>& producers) const override {
    return mixed(f, producers);
  }
  Indices components(const Graph& g, const Node& node) const override {
    Indices at = positions(node);
    if (o_.row >= 0) {
      for (int64_t& i : at) i += o_.row * g.size(g[node.inputs.back()].shape.back());
    }
    return at;
  }
  std::shared_ptr<const Operation> without_input(const Node& node, size_t input) const override {
    if (input + 1 >= node.inputs.size()) return nullptr;
    WeightedSumOptions rest = o_;
    rest.components = positions(node);
    rest.components.erase(rest.components.begin() + static_cast<std::ptrdiff_t>(input));
    return std::make_shared<WeightedSum>(rest);
  }
  std::shared_ptr<const Operation> follow(const Graph& before, const Node& node,
                                          const std::vector<AxisChange>& changes) const override {
    const Shape& c = before[node.inputs.back()].shape;
    WeightedSumOptions o = o_;
    o.components = positions(node);
    const auto move = [&](const Dim& dim, int64_t& i) {
      const auto from = gather(before, dim, changes);
      if (!from) return false;
      const auto at = std::ranges::find(*from, i);
      if (at == from->end()) throw EditError("the mixture '" + node.name + "' needs the coefficient that would go");
      i = at - from->begin();
      return true;
    };
    bool changed = o_.row >= 0 && move(c.front(), o.row);
    for (int64_t& i : o.components) changed = move(c.back(), i) || changed;
    return changed ? std::make_shared<WeightedSum>(o) : nullptr;
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    const Indices at = positions(node);
    const std::string row = o_.row < 0 ? "" : std::to_string(o_.row) + ", ";
    std::string sum;
    for (size_t i = 0; i < at.size(); ++i) {
      sum += (i ? " + {" : "{") + std::to_string(i) + "} * {" + std::to_string(at.size()) + "}[:, " + row +
             std::to_string(at[i]) + "].reshape(" + list(broadcast(g, node)) + ")";
    }
    return {"(" + sum + ")"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const std::string one_each = to.constant(at::tensor(broadcast(g, node), at::kLong));
    const Indices at = positions(node);
    const auto gather = [&](const std::string& c, int64_t i) {
      return to.add("Gather", {c, to.constant(at::scalar_tensor(i, at::kLong))}, {{"axis", int64_t{1}}});
    };
    const std::string row = o_.row < 0 ? to.input(at.size()) : gather(to.input(at.size()), o_.row);
    std::string sum;
    for (size_t i = 0; i < at.size(); ++i) {
      const std::string term = to.add("Mul", {to.input(i), to.add("Reshape", {gather(row, at[i]), one_each})});
      sum = i ? to.add("Add", {sum, term}) : term;
    }
    return {sum};
  }

 private:
  // producers: as in forward_terms(); empty if all inputs are there.
  at::Tensor mixed(const Forward& f, const std::vector<const Node*>& producers) const {
    const Indices at = positions(f.node);
    const at::Tensor c = o_.row < 0 ? f.inputs.back() : f.inputs.back().select(1, o_.row);
    if (f.pass.fuse && takes_terms(f.inputs.back())) {
      if (at::Tensor y = in_one_pass(f, producers, c); y.defined()) return y;
    }
    const std::vector<int64_t> one_each = broadcast(f.graph, f.node);
    at::Tensor sum;
    for (size_t i = 0; i < at.size(); ++i) {
      at::Tensor x = f.inputs[i];
      if (!producers.empty() && producers[i])
        x = producers[i]->op->forward({f.graph, *producers[i], f.weights, f.pass, {x}})[0];
      const at::Tensor term = x * c.select(1, at[i]).reshape(one_each);
      sum = sum.defined() ? sum + term : term;
    }
    return sum;
  }
  // Undefined where that is not possible.
  at::Tensor in_one_pass(const Forward& f, const std::vector<const Node*>& producers, const at::Tensor& c) const {
    const Indices at = positions(f.node);
    std::vector<MixedTerm> terms;
    for (size_t i = 0; i < at.size(); ++i) {
      if (producers.empty() || !producers[i]) {
        terms.push_back({MixedTerm::Kind::plain, f.inputs[i]});
      } else {
        const std::vector<at::Tensor> input{f.inputs[i]};
        const auto term =
            dynamic_cast<const AsTerm&>(*producers[i]->op).as_term({f.graph, *producers[i], f.weights, f.pass, input});
        if (!term) return {};
        terms.push_back(*term);
      }
      const MixedTerm& term = terms.back();
      if (term.kind != MixedTerm::Kind::zero && (!is_fast_cpu(term.x) || term.x.sizes() != f.inputs[0].sizes()))
        return {};
    }
    at::Tensor coefficients = c[0];
    if (!o_.components.empty()) coefficients = coefficients.index_select(0, at::tensor(at, at::kLong));
    return fast_mixture(terms, coefficients);
  }

  // [batch (1 or that of the inputs), 1, ..., 1]
  static std::vector<int64_t> broadcast(const Graph& g, const Node& node) {
    std::vector<int64_t> sizes(g[node.outputs[0]].shape.size() + 1, 1);
    sizes[0] = -1;
    return sizes;
  }
  // Of each component's coefficient in its row.
  Indices positions(const Node& node) const {
    if (!o_.components.empty()) return o_.components;
    Indices all(node.inputs.size() - 1);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
};

}  // namespace

bool spreads(const Graph&, const Dim& from, const Dim& to) {
  if (from == to) return true;
  if (from.segments.size() != 1 || to.segments.size() != 1) return false;
  size_t next = 0;
  for (const Factor& f : to.segments[0].factors)
    next += next < from.segments[0].factors.size() && from.segments[0].factors[next] == f;
  return next == from.segments[0].factors.size();
}

at::Tensor spread(const Graph& graph, const at::Tensor& coefficients, const Dim& from, const Dim& to) {
  if (from == to) return coefficients;
  return coefficients.reshape(view_sizes(graph, from, to))
      .expand(factor_sizes(graph, to, -1))
      .reshape({coefficients.size(0), -1});
}

std::vector<Component> coefficient_operations() {
  return {component<Coefficient>(Coefficient::name, "free parameters that multiply something"),
          component<Gate>(Gate::name, "channels times coefficients"),
          component<WeightedSum>(WeightedSum::name, "components times coefficients, summed")};
}

}  // namespace espalier
