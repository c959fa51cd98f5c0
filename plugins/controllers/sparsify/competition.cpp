#include "competition.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <espalier/error.h>
#include <espalier/onnx.h>
#include <espalier/random_fill.h>
#include <espalier/weights.h>

namespace espalier {

namespace {

// Sums of nothing are divided by this instead of zero. It is large enough for float32.
constexpr double tiny = 1e-30;
// Sinkhorn's iterations bring an entry that no doubly stochastic matrix of these zeros can have to zero, by a factor in
// each of them. Below this it is zero, and a row or column of less is empty: quotients would leave what float32 holds.
constexpr double least = 1e-12;

// Up to here a^p is a straight line, since its slope has no bound: a coefficient that is about to vanish would throw
// its parameters far away.
constexpr double steep = 1e-6;

// a^p of numbers from 0 on, with p < 1, and 0 without a gradient where a is 0 (004-X5).
at::Tensor power(const at::Tensor& a, double p) {
  const at::Tensor small = a.lt(steep);
  const at::Tensor line = at::where(a.eq(0), 0.0, a * std::pow(steep, p - 1));
  return at::where(small, line, at::where(small, 1.0, a).pow(p));
}

// s^(1/p) of the sums of such powers, and 0 without a gradient where s is 0.
at::Tensor root(const at::Tensor& s, double p) {
  const at::Tensor empty = s.eq(0);
  return at::where(empty, 0.0, at::where(empty, 1.0, s).pow(1 / p));
}

std::vector<at::Tensor> parameters_of(const Node& node, const Weights& weights) {
  std::vector<at::Tensor> all;
  for (const ParamId p : node.parameters) all.push_back(weights[p]);
  return all;
}

}  // namespace

Competing::~Competing() = default;

double equal_chances(int64_t n) {
  const auto count = static_cast<double>(n);
  return -std::log(count * count + count - 1);
}

at::Tensor SparseForm::gamma_of(const at::Tensor& alpha) const {
  return gamma == "exp" ? at::exp(alpha) : at::sigmoid(alpha);
}

at::Tensor SparseForm::positive_part(const at::Tensor& x) const {
  at::Tensor value = at::relu(x);
  if (revive == "none") return value;
  const at::Tensor slope_of = revive == "elu" ? at::elu(x) : at::leaky_relu(x, slope);
  // Exactly `value`: one of the two terms is zero, or they are the same number with two signs.
  return slope_of + (value - slope_of).detach();
}

void CompetitionOptions::declare(Declare<CompetitionOptions>& p) {
  p("form", &CompetitionOptions::form, one_of({"sparse", "softmax", "sampled", "free"}),
    "How the coefficients are made; sparse: by differentiable sparsification; softmax: of the free parameters; "
    "sampled: in each training step some are drawn; free: the free parameters themselves.");
  declare_sparse_form(p);
  p("null_component", &CompetitionOptions::null, "Whether what falls below the threshold takes its share of the sum.");
  p("scale", &CompetitionOptions::scale, one_of({"one", "count"}),
    "What the coefficients are multiplied by: 1, or how many components there are.");
  p("alpha", &CompetitionOptions::alpha,
    "What the free parameters begin with. Left out: 0, of `sampled` 1/2, and of `free` one over the number of "
    "components.");
  p("beta", &CompetitionOptions::beta,
    "What the parameter of the threshold begins with. Left out: -log(n^2 + n - 1), which gives each of the n "
    "components and what is below the threshold the same share.");
  p("keep", &CompetitionOptions::keep, at_least(1), "Number of components that `sampled` draws.");
}

void Competition::build(NodeBuilder& n) const {
  const Dim components = Dim::of(n.axis(0));
  const int64_t size = n.graph().size(components);
  const double first = o_.form == "sampled" ? 0.5 : o_.form == "free" ? 1.0 / static_cast<double>(size) : 0;
  // The kind says that no weight decay may act on it (004-X10): it would draw the threshold up until nothing is left.
  n.parameter("alpha", "competition", {NodeBuilder::makes(components)},
              {Initializer::Kind::constant, o_.alpha.value_or(first)}, 0, Role::architecture);
  n.buffer("alive", "alive", {NodeBuilder::makes(components)}, 1, 0);
  if (is_sparse()) {
    n.parameter("beta", "competition", {NodeBuilder::makes(Dim::of(1))},
                {Initializer::Kind::constant, o_.beta.value_or(equal_chances(size))}, 0, Role::architecture);
  }
  n.output({components});
}

at::Tensor Competition::coefficients(const at::Tensor& alpha, const at::Tensor& alive, const at::Tensor& beta,
                                     const RandomKey* key) const {
  if (o_.form == "free") return alpha * alive;
  if (o_.form == "softmax") {
    const at::Tensor e = at::exp(alpha - alpha.detach().max()) * alive;
    return e / e.sum().clamp_min(tiny);
  }
  if (o_.form == "sampled") {
    // The largest of log(alpha) + Gumbel noise are a draw without replacement in proportion to alpha.
    at::Tensor order = at::where(alive.gt(0), alpha.detach().clamp_min(tiny).log(), -INFINITY);
    if (key)
      order = order - uniform(alpha.sizes().vec(), 0, 1, *key).clamp_min(tiny).log().neg().log().to(order.options());
    const int64_t k = std::min(o_.keep, alpha.numel());
    const at::Tensor chosen = at::zeros_like(alpha.detach()).index_fill(0, std::get<1>(at::topk(order, k)), 1) * alive;
    return chosen + (alpha - alpha.detach()) * alive;
  }
  const at::Tensor gamma = o_.gamma_of(alpha);
  const at::Tensor threshold = at::sigmoid(beta) * gamma.sum();
  const at::Tensor left = o_.positive_part(gamma - threshold) * alive;
  at::Tensor sum = left.sum();
  if (o_.null) sum = sum + at::minimum(gamma, threshold).sum();
  return left / sum.clamp_min(tiny);
}

std::vector<at::Tensor> Competition::forward(const Forward& f) const {
  const RandomKey key = f.pass.key.with("competition").with(f.node.name);
  const bool draws = is_sampled() && f.pass.training;
  at::Tensor a = coefficients(f.parameter(0), f.parameter(alive_at), is_sparse() ? f.parameter(2) : at::Tensor(),
                              draws ? &key : nullptr);
  if (o_.scale == "count") a = a * a.numel();
  return {a.unsqueeze(0)};
}

at::Tensor Competition::values(const Node& node, const Weights& weights) const {
  const std::vector<at::Tensor> p = parameters_of(node, weights);
  return coefficients(p[0], p[alive_at], is_sparse() ? p[2] : at::Tensor(), nullptr);
}

at::Tensor Competition::norms(const Node& node, const Weights& weights, double p) const {
  return root(power(values(node, weights).abs(), p).sum(), p).view({1});
}

PythonForm Competition::python(const Graph&, const Node&) const {
  const std::string times = o_.scale == "count" ? " * alpha.numel()" : "",
                    of_scale = o_.scale == "count" ? "_scaled" : "";
  const std::string head = "(alpha: torch.Tensor, alive: torch.Tensor";
  if (o_.form == "free") {
    const std::string function = "competition_free" + of_scale;
    return {function + "({p0}, {p1})",
            "def " + function + head + ") -> torch.Tensor:\n    return (alpha * alive).unsqueeze(0)" + times + "\n"};
  }
  if (o_.form == "softmax") {
    const std::string function = "competition_softmax" + of_scale;
    return {function + "({p0}, {p1})", "def " + function + head +
                                           ") -> torch.Tensor:\n"
                                           "    e = torch.exp(alpha - alpha.max()) * alive\n"
                                           "    return (e / e.sum().clamp_min(1e-30)).unsqueeze(0)" +
                                           times + "\n"};
  }
  if (o_.form == "sampled") {
    const std::string k = std::to_string(o_.keep);
    const std::string function = "competition_top" + k + of_scale;
    return {function + "({p0}, {p1})",
            "def " + function + head +
                ") -> torch.Tensor:\n"
                "    order = torch.where(alive > 0, alpha.clamp_min(1e-30).log(), torch.full_like(alpha, -1e30))\n"
                "    at = torch.topk(order, min(" +
                k +
                ", alpha.numel())).indices\n"
                "    return (torch.zeros_like(alpha).index_fill(0, at, 1.0) * alive).unsqueeze(0)" +
                times + "\n"};
  }
  const std::string function = "competition_" + o_.gamma + (o_.null ? "_null" : "") + of_scale;
  return {function + "({p0}, {p1}, {p2})",
          "def " + function + head + ", beta: torch.Tensor) -> torch.Tensor:\n    gamma = " + o_.python_gamma() +
              "(alpha)\n"
              "    threshold = torch.sigmoid(beta) * gamma.sum()\n"
              "    left = torch.relu(gamma - threshold) * alive\n"
              "    total = left.sum()" +
              (o_.null ? " + torch.minimum(gamma, threshold).sum()" : "") +
              "\n    return (left / total.clamp_min(1e-30)).unsqueeze(0)" + times + "\n"};
}

std::vector<std::string> Competition::onnx(OnnxNodes& to, const Graph&, const Node&) const {
  at::Tensor a = coefficients(to.values(0), to.values(alive_at), is_sparse() ? to.values(2) : at::Tensor(), nullptr);
  if (o_.scale == "count") a = a * a.numel();
  return {to.constant(a.unsqueeze(0))};
}

void AdjacencyOptions::declare(Declare<AdjacencyOptions>& p) {
  p("size", &AdjacencyOptions::size, at_least(1), "Number of nodes of the graph.");
  p("form", &AdjacencyOptions::form, one_of({"sparse", "softmax", "free"}),
    "How the entries are made; sparse: by differentiable sparsification; softmax: of the free parameters of a row; "
    "free: the free parameters themselves.");
  declare_sparse_form(p);
  p("thresholds", &AdjacencyOptions::thresholds, one_of({"min", "sum", "product"}),
    "How the thresholds of an entry's row and of its column combine; min: the smaller of what is above each; sum: what "
    "is above their sum; product: the product of what is above each.");
  p("normalize", &AdjacencyOptions::normalize, one_of({"sequential", "balanced", "none"}),
    "Sinkhorn normalisation; sequential: rows, then columns, by turns; balanced: both at once by the square roots of "
    "their sums, which takes about five times as many iterations; none: the entries stay as they are.");
  p("iterations", &AdjacencyOptions::iterations, at_least(0), at_most(10000), "Iterations of the normalisation.");
  p("symmetric", &AdjacencyOptions::symmetric,
    "Whether an entry and its mirror image are one: both read the mean of their free parameters, and columns have the "
    "thresholds of rows. It needs `normalize: balanced` or none.");
}

void AdjacencyCompetition::build(NodeBuilder& n) const {
  if (o_.symmetric && o_.normalize == "sequential" && o_.form == "sparse")
    n.refuse("by turns, rows and columns are not treated alike: `symmetric` needs `normalize: balanced`");
  const Dim side = Dim::of(o_.size);
  n.parameter("alpha", "competition", {NodeBuilder::makes(side), NodeBuilder::makes(side)},
              {Initializer::Kind::constant, o_.form == "free" ? 1.0 / static_cast<double>(o_.size) : 0.0}, 0,
              Role::architecture);
  n.buffer("mask", "alive", {NodeBuilder::makes(side), NodeBuilder::makes(side)}, 1, 0);
  if (is_sparse()) {
    n.parameter("beta_row", "competition", {NodeBuilder::makes(side)}, {Initializer::Kind::constant, 0}, 0,
                Role::architecture);
    if (!o_.symmetric) {
      n.parameter("beta_column", "competition", {NodeBuilder::makes(side)}, {Initializer::Kind::constant, 0}, 0,
                  Role::architecture);
    }
  }
  n.output({side, side});
}

at::Tensor AdjacencyCompetition::sums(const at::Tensor& values, const at::Tensor& index) const {
  return at::zeros({o_.size}, values.options()).index_add(0, index, values);
}

at::Tensor AdjacencyCompetition::matrix(const Entries& e) const {
  return at::zeros({o_.size * o_.size}, e.values.options()).index_copy(0, e.places, e.values).view({o_.size, o_.size});
}

AdjacencyCompetition::Entries AdjacencyCompetition::entries(const std::vector<at::Tensor>& parameters) const {
  // Of the candidates alone, which are few among the entries of a given graph: everything below costs as much as they
  // are many.
  Entries e;
  e.places = parameters[mask_at].detach().flatten().nonzero().flatten();
  e.rows = e.places.div(o_.size, "floor");
  e.columns = e.places.remainder(o_.size);
  const at::Tensor alpha = parameters[0].flatten();
  at::Tensor x = alpha.index_select(0, e.places);
  if (o_.symmetric) x = (x + alpha.index_select(0, e.columns * o_.size + e.rows)) / 2;
  e.values = x;
  if (o_.form == "free") return e;
  if (o_.form == "softmax") {
    const at::Tensor powers = at::exp(x - x.detach().max());
    e.values = powers / sums(powers, e.rows).clamp_min(tiny).index_select(0, e.rows);
    return e;
  }
  const at::Tensor gamma = o_.gamma_of(x);
  const at::Tensor ones = at::ones_like(gamma.detach());
  const auto thresholds = [&](const at::Tensor& beta, const at::Tensor& index) {
    const at::Tensor n = sums(ones, index).clamp_min(1);
    const at::Tensor t = at::sigmoid(beta - (n * n + n - 1).log()) * sums(gamma, index);
    return t.index_select(0, index);
  };
  const at::Tensor r = thresholds(parameters[2], e.rows), c = thresholds(parameters[o_.symmetric ? 2 : 3], e.columns);
  at::Tensor a;
  if (o_.thresholds == "sum") a = o_.positive_part(gamma - r - c);
  if (o_.thresholds == "min") a = at::minimum(o_.positive_part(gamma - r), o_.positive_part(gamma - c));
  if (o_.thresholds == "product") a = o_.positive_part(gamma - r) * o_.positive_part(gamma - c);
  // An empty row divides by one, and stays empty.
  const auto divisor = [&](const at::Tensor& v, const at::Tensor& index) {
    const at::Tensor s = sums(v, index);
    return at::where(s.gt(least), s, 1.0).index_select(0, index);
  };
  for (int64_t i = 0; i < o_.iterations && o_.normalize != "none"; ++i) {
    if (o_.normalize == "balanced") {
      a = a / (divisor(a, e.rows) * divisor(a, e.columns)).sqrt();
    } else {
      a = a / divisor(a, e.rows);
      a = a / divisor(a, e.columns);
    }
    // What is zero already keeps its gradient, which `revive` may give it.
    a = at::where(a.gt(0).logical_and(a.le(least)), 0.0, a);
  }
  e.values = a;
  return e;
}

std::vector<at::Tensor> AdjacencyCompetition::forward(const Forward& f) const {
  return {matrix(entries(parameters_of(f.node, f.weights))).unsqueeze(0)};
}

at::Tensor AdjacencyCompetition::values(const Node& node, const Weights& weights) const {
  return matrix(entries(parameters_of(node, weights)));
}

at::Tensor AdjacencyCompetition::norms(const Node& node, const Weights& weights, double p) const {
  const Entries e = entries(parameters_of(node, weights));
  const at::Tensor powers = power(e.values.abs(), p);
  return root(at::cat({sums(powers, e.rows), sums(powers, e.columns)}), p);
}

PythonForm AdjacencyCompetition::python(const Graph&, const Node& node) const {
  // Written for every setting at once; the literals decide.
  std::string call = "adjacency_competition({p0}, {p1}, ";
  call += is_sparse() ? "{p2}, " : "{p0}[0], ";
  call += is_sparse() && node.parameters.size() > 3 ? "{p3}, " : is_sparse() ? "{p2}, " : "{p0}[0], ";
  call += "\"" + o_.form + "\", \"" + o_.gamma + "\", \"" + o_.thresholds + "\", \"" + o_.normalize + "\", " +
          std::to_string(o_.iterations) + ", " + (o_.symmetric ? "True" : "False") + ")";
  return {call, R"py(def adjacency_competition(alpha: torch.Tensor, mask: torch.Tensor, beta_row: torch.Tensor,
                          beta_column: torch.Tensor, form: str, kind: str, thresholds: str, normalize: str,
                          iterations: int, symmetric: bool) -> torch.Tensor:
    x = (alpha + alpha.t()) / 2 if symmetric else alpha
    if form == "free":
        return (x * mask).unsqueeze(0)
    if form == "softmax":
        e = torch.exp(x - x.max()) * mask
        return (e / e.sum(1, keepdim=True).clamp_min(1e-30)).unsqueeze(0)
    gamma = (torch.exp(x) if kind == "exp" else torch.sigmoid(x)) * mask
    n = mask.sum(1).clamp_min(1)
    m = mask.sum(0).clamp_min(1)
    r = (torch.sigmoid(beta_row - (n * n + n - 1).log()) * gamma.sum(1)).unsqueeze(1)
    c = torch.sigmoid(beta_column - (m * m + m - 1).log()) * gamma.sum(0)
    if thresholds == "sum":
        a = torch.relu(gamma - r - c)
    elif thresholds == "min":
        a = torch.minimum(torch.relu(gamma - r), torch.relu(gamma - c))
    else:
        a = torch.relu(gamma - r) * torch.relu(gamma - c)
    a = a * mask
    if normalize != "none":
        for i in range(iterations):
            rows = a.sum(1, keepdim=True)
            rows = torch.where(rows > 1e-12, rows, torch.ones_like(rows))
            if normalize == "balanced":
                columns = a.sum(0, keepdim=True)
                columns = torch.where(columns > 1e-12, columns, torch.ones_like(columns))
                a = a / (rows * columns).sqrt()
            else:
                a = a / rows
                columns = a.sum(0, keepdim=True)
                a = a / torch.where(columns > 1e-12, columns, torch.ones_like(columns))
            a = torch.where(a > 1e-12, a, torch.zeros_like(a))
    return a.unsqueeze(0)
)py"};
}

std::vector<std::string> AdjacencyCompetition::onnx(OnnxNodes& to, const Graph&, const Node& node) const {
  std::vector<at::Tensor> parameters;
  for (size_t i = 0; i < node.parameters.size(); ++i) parameters.push_back(to.values(i));
  return {to.constant(matrix(entries(parameters)).unsqueeze(0))};
}

}  // namespace espalier
