#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>

#include <ATen/ops/max.h>
#include <ATen/ops/softmax.h>

#include <espalier/backbone.h>
#include <espalier/mixture.h>
#include <espalier/plugin.h>

#include "../search_space.h"

namespace espalier {

struct DartsOptions {
  std::vector<std::string> normal;
  std::vector<std::string> reduce;
  int64_t layers = 20;
  int64_t channels = 36;
  std::string stem = "cifar";
  double drop_path = 0;
  bool drop_path_rises = true;
  bool auxiliary = false;

  static void declare(Declare<DartsOptions>& p) {
    p("normal", &DartsOptions::normal,
      "The normal cell: two entries OPERATION<-INPUT, such as sep_conv_3x3<-0, for each of the nodes 2 to "
      "5. Left out: the cell that belongs to the name.");
    p("reduce", &DartsOptions::reduce, "The reduction cell, in the same form as the normal cell.");
    p("layers", &DartsOptions::layers, at_least(3), at_most(1000),
      "Number of cells. Those at one third and at two thirds halve the image.");
    p("channels", &DartsOptions::channels, at_least(1), "Filters of each node in the first cells.");
    p("stem", &DartsOptions::stem, one_of({"cifar", "imagenet"}),
      "First layers; imagenet: three convolutions of stride 2, for large images.");
    p("drop_path", &DartsOptions::drop_path, at_least(0), below(1),
      "Probability of leaving out an operation for a sample; the identity is never left out.");
    p("drop_path_rises", &DartsOptions::drop_path_rises,
      "Whether this probability rises linearly with the epochs of a stage, from 0 in the first one, as in the authors' "
      "program. If not, it is the same in all epochs.");
    p("auxiliary", &DartsOptions::auxiliary,
      "Whether a classifier within the network, behind the second reduction, is its output auxiliary. The loss "
      "auxiliary trains it; nothing else reads it.");
  }
};

namespace {

struct Genotype {
  std::vector<std::string> normal, reduce;
};

// Liu et al. 2019: first and second order, as released.
const Genotype v1{{"sep_conv_3x3<-1", "sep_conv_3x3<-0", "skip_connect<-0", "sep_conv_3x3<-1", "skip_connect<-0",
                   "sep_conv_3x3<-1", "sep_conv_3x3<-0", "skip_connect<-2"},
                  {"max_pool_3x3<-0", "max_pool_3x3<-1", "skip_connect<-2", "max_pool_3x3<-0", "max_pool_3x3<-0",
                   "skip_connect<-2", "skip_connect<-2", "avg_pool_3x3<-0"}};
const Genotype v2{{"sep_conv_3x3<-0", "sep_conv_3x3<-1", "sep_conv_3x3<-0", "sep_conv_3x3<-1", "sep_conv_3x3<-1",
                   "skip_connect<-0", "skip_connect<-0", "dil_conv_3x3<-2"},
                  {"max_pool_3x3<-0", "max_pool_3x3<-1", "skip_connect<-2", "max_pool_3x3<-1", "max_pool_3x3<-0",
                   "skip_connect<-2", "skip_connect<-2", "max_pool_3x3<-1"}};

struct DartsSearchOptions {
  int64_t layers = 8;
  int64_t channels = 16;
  std::vector<std::string> operations;
  bool derive_none = false;

  static void declare(Declare<DartsSearchOptions>& p) {
    p("layers", &DartsSearchOptions::layers, at_least(3), at_most(1000),
      "Number of cells. Those at one third and at two thirds halve the image.");
    p("channels", &DartsSearchOptions::channels, at_least(1), "Filters of each node in the first cells.");
    p("operations", &DartsSearchOptions::operations,
      "Operations on each edge, in any order: two or more of none, max_pool_3x3, avg_pool_3x3, skip_connect, "
      "sep_conv_3x3, sep_conv_5x5, dil_conv_3x3 and dil_conv_5x5. Left out: all of them.");
    p("derive_none", &DartsSearchOptions::derive_none,
      "Whether derived cells may have the operation none. The authors' program leaves it out; paper 003 does not say "
      "so.");
  }
};

// As the rows of alpha count them.
constexpr const char* all_operations[] = {"none",         "max_pool_3x3", "avg_pool_3x3", "skip_connect",
                                          "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"};

struct Layers {
  GraphBuilder& g;
  double drop_path = 0;
  bool drop_path_rises = false;
  bool affine = true;                     // of the cells' batch norms
  std::vector<std::string> operations{};  // of each edge of a search network

  Edge batch_norm(const std::string& name, Edge x) const { return g.batch_norm(name, x, {.affine = affine}); }

  Edge conv(const std::string& n, Edge x, int64_t filters, int64_t kernel = 1, int64_t stride = 1) const {
    return g.conv("conv" + n, x,
                  {.filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false});
  }
  Edge relu_conv_bn(Edge x, int64_t filters) const { return batch_norm("bn", conv("", g.relu(x), filters)); }
  // Half of the channels from the even pixels, half from the odd ones. A view gives them one axis, which others are
  // added to.
  Edge factorized_reduce(Edge x, int64_t filters) const {
    x = g.relu(x);
    const Edge even = conv("1", x, filters / 2, 1, 2);
    const Edge odd = conv("2", g.crop(x, 1), filters - filters / 2, 1, 2);
    Indices all(static_cast<size_t>(filters));
    std::iota(all.begin(), all.end(), 0);
    return batch_norm("bn", g.select("halves", g.concat({even, odd}), all, {}));
  }
  // ReLU, depthwise, 1x1, batch norm.
  Edge separable(const std::string& n, Edge x, int64_t kernel, int64_t stride, int64_t dilation = 1) const {
    const Edge y = g.conv("depthwise" + n, g.relu(x),
                          {.kernel = kernel,
                           .stride = stride,
                           .padding = dilation * (kernel - 1) / 2,
                           .dilation = dilation,
                           .depthwise = true,
                           .bias = false});
    return batch_norm("bn" + n, conv("" + n, y, g.channels(x)));
  }

  Edge operation(const std::string& op, Edge x, int64_t stride) const {
    if (op == "none") return stride == 1 ? g.zeros(x) : g.zeros(g.max_pool(x, 1, stride));
    if (op == "skip_connect" && stride == 1) return x;
    Edge y = x;
    if (op == "skip_connect") y = factorized_reduce(x, g.channels(x));
    if (op == "max_pool_3x3") y = g.max_pool(x, 3, stride, 1);
    if (op == "avg_pool_3x3") y = g.avg_pool(x, 3, stride, 1);
    for (const int64_t kernel : {3, 5}) {
      const std::string size = std::to_string(kernel) + "x" + std::to_string(kernel);
      if (op == "sep_conv_" + size) y = separable("2", separable("1", x, kernel, stride), kernel, 1);
      if (op == "dil_conv_" + size) y = separable("", x, kernel, stride, 2);
    }
    if (y == x) throw Error("there is no operation '" + op + "' in the cells of DARTS");
    return drop_path > 0 ? g.drop_path(y, drop_path, drop_path_rises) : y;
  }

  // All operations, each times its coefficient.
  Edge mixed(Edge x, int64_t stride, Edge coefficients, int64_t row) const {
    const auto s = g.scope("edges." + std::to_string(row));
    std::vector<Edge> terms;
    for (const std::string& op : operations) {
      const auto t = g.scope(op);
      const Edge y = operation(op, x, stride);
      terms.push_back(op.find("_pool_") == std::string::npos ? y : batch_norm("bn", y));
    }
    g.unify(terms);
    terms.push_back(coefficients);
    return g.node("weighted_sum", "mixed", terms, Value::map({{"row", row}}));
  }

  // The outputs of the two cells before, with the cell's width.
  std::vector<Edge> inputs(Edge before, Edge last, int64_t filters, bool after_reduction) const {
    std::vector<Edge> nodes;
    {
      const auto s = g.scope("preprocess0");
      nodes.push_back(after_reduction ? factorized_reduce(before, filters) : relu_conv_bn(before, filters));
    }
    const auto s = g.scope("preprocess1");
    nodes.push_back(relu_conv_bn(last, filters));
    return nodes;
  }

  // Two inputs and four nodes, each a sum over all before, that are concatenated.
  Edge search_cell(Edge coefficients, Edge before, Edge last, int64_t filters, bool reduction,
                   bool after_reduction) const {
    std::vector<Edge> nodes = inputs(before, last, filters, after_reduction);
    for (int64_t row = 0; nodes.size() < 6;) {
      std::vector<Edge> terms;
      for (size_t from = 0; from < nodes.size(); ++from, ++row)
        terms.push_back(mixed(nodes[from], reduction && from < 2 ? 2 : 1, coefficients, row));
      nodes.push_back(g.add(terms));
    }
    return g.concat({nodes.begin() + 2, nodes.end()});
  }

  // Two inputs, the outputs of the cells before, and four nodes that are concatenated.
  Edge cell(const std::vector<std::string>& ops, Edge before, Edge last, int64_t filters, bool reduction,
            bool after_reduction) const {
    std::vector<Edge> nodes = inputs(before, last, filters, after_reduction);
    if (ops.size() != 8)
      throw Error("a cell of DARTS has 8 operations, two for each node, not " + std::to_string(ops.size()));
    for (size_t i = 0; i < ops.size(); i += 2) {
      std::vector<Edge> terms;
      for (size_t k = i; k < i + 2; ++k) {
        const size_t arrow = ops[k].find("<-");
        const std::string from = arrow == std::string::npos ? "" : ops[k].substr(arrow + 2);
        if (from.size() != 1 || from[0] < '0' || from[0] >= static_cast<char>('0' + nodes.size()))
          throw Error("'" + ops[k] + "' is no OPERATION<-INPUT with an input before the node " +
                      std::to_string(nodes.size()));
        const auto input = static_cast<size_t>(from[0] - '0');
        const auto s = g.scope("ops." + std::to_string(k));
        terms.push_back(operation(ops[k].substr(0, arrow), nodes[input], reduction && input < 2 ? 2 : 1));
      }
      nodes.push_back(g.add(terms));
    }
    return g.concat({nodes.begin() + 2, nodes.end()});
  }

  // The classifier within the network (the authors' AuxiliaryHeadCIFAR; that of ImageNet has a stride of 2 and, by an
  // oversight that they keep, no second batch norm).
  Edge auxiliary(Edge x, bool imagenet, int64_t classes) const {
    const auto s = g.scope("auxiliary");
    x = g.avg_pool(g.relu(x), 5, imagenet ? 2 : 3);
    x = g.relu(batch_norm("bn1", conv("1", x, 128)));
    x = g.conv("conv2", x, {.filters = 768, .kernel = 2, .bias = false});
    if (!imagenet) x = batch_norm("bn2", x);
    return g.linear("fc", g.flatten(g.relu(x)), {.features = classes});
  }
};

// Cells one after the other, each behind the two before; reductions at one and two thirds have twice as many filters.
template <class Cell>
Edge chain(GraphBuilder& g, int64_t cells, int64_t filters, Edge before, Edge last, bool after_reduction,
           const Cell& cell) {
  for (int64_t i = 0; i < cells; ++i) {
    const auto s = g.scope("cells." + std::to_string(i));
    const bool reduction = i == cells / 3 || i == 2 * cells / 3;
    if (reduction) filters *= 2;
    const Edge x = cell(before, last, filters, reduction, after_reduction);
    before = last;
    last = x;
    after_reduction = reduction;
  }
  return last;
}

// The network that DARTS trains from a genotype.
Graph darts(const DartsOptions& o, const Genotype& named, const InputSpec& input, const TargetSpec& target) {
  const std::vector<std::string>& normal = o.normal.empty() ? named.normal : o.normal;
  const std::vector<std::string>& reduce = o.reduce.empty() ? named.reduce : o.reduce;
  GraphBuilder g(input);
  const Layers layers{.g = g, .drop_path = o.drop_path, .drop_path_rises = o.drop_path_rises};
  Edge before = g.input(), last = before;
  bool after_reduction = false;
  if (o.stem == "cifar") {
    before = last =
        g.batch_norm("stem.bn", g.conv("stem.conv", before, {.filters = 3 * o.channels, .padding = 1, .bias = false}));
  } else {
    const auto s = g.scope("stem");
    before = g.relu(g.batch_norm("bn1", layers.conv("1", before, o.channels / 2, 3, 2)));
    before = g.batch_norm("bn2", layers.conv("2", before, o.channels, 3, 2));
    last = g.batch_norm("bn3", layers.conv("3", g.relu(before), o.channels, 3, 2));
    after_reduction = true;
  }
  int64_t cell = 0;
  Edge behind_reductions;
  last = chain(g, o.layers, o.channels, before, last, after_reduction,
               [&](Edge first, Edge second, int64_t filters, bool reduction, bool after) {
                 const Edge x = layers.cell(reduction ? reduce : normal, first, second, filters, reduction, after);
                 if (cell++ == 2 * o.layers / 3) behind_reductions = x;
                 return x;
               });
  const Edge logits = g.linear("fc", g.global_avg_pool(last), {.features = target.outputs});
  if (!o.auxiliary) return g.output(logits);
  const Edge auxiliary = layers.auxiliary(behind_reductions, o.stem == "imagenet", target.outputs);
  Graph graph = g.output(logits);
  graph.add_output("auxiliary", auxiliary);
  return graph;
}

// The network in which DARTS searches: each edge has all operations, and all cells of a kind share their coefficients,
// the softmax of the rows of alpha_normal and alpha_reduce.
Graph darts_search(const DartsSearchOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Layers layers{.g = g, .affine = false, .operations = operations_in_order(all_operations, o.operations)};
  const auto coefficients = [&](const std::string& name) {
    return g.softmax(
        g.node("coefficient", name, {}, Value::map({{"deviation", 1e-3}}), {14, std::ssize(layers.operations)}));
  };
  const Edge normal = coefficients("alpha_normal"), reduce = coefficients("alpha_reduce");
  const Edge stem =
      g.batch_norm("stem.bn", g.conv("stem.conv", g.input(), {.filters = 3 * o.channels, .padding = 1, .bias = false}));
  const Edge x =
      chain(g, o.layers, o.channels, stem, stem, /*after_reduction=*/false,
            [&](Edge before, Edge last, int64_t filters, bool reduction, bool after) {
              return layers.search_cell(reduction ? reduce : normal, before, last, filters, reduction, after);
            });
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = target.outputs}));
}

// The operations of a cell that its coefficients choose: for each of the four nodes the two inputs whose best operation
// has the largest coefficient (Liu et al. 2019, section 2.4, and their genotype(), which does not count "none").
std::vector<std::string> derived_operations(const DartsSearchOptions& o, const at::Tensor& coefficients) {
  const std::vector<std::string> operations = operations_in_order(all_operations, o.operations);
  const int64_t first = !o.derive_none && operations.front() == "none" ? 1 : 0;
  std::vector<std::string> cell;
  for (int64_t node = 0, row = 0; node < 4; ++node) {
    struct Choice {
      double coefficient;
      int64_t input, operation;
    };
    std::vector<Choice> inputs;
    for (int64_t from = 0; from < node + 2; ++from, ++row) {
      const auto [largest, at] = coefficients[row].narrow(0, first, std::ssize(operations) - first).max(0);
      inputs.push_back({largest.item<double>(), from, at.item<int64_t>() + first});
    }
    std::ranges::stable_sort(inputs, std::greater(), &Choice::coefficient);
    inputs.resize(2);
    for (const Choice& c : inputs)
      cell.push_back(operations[static_cast<size_t>(c.operation)] + "<-" + std::to_string(c.input));
  }
  return cell;
}

Value derived_genotype(const DartsSearchOptions& o, const Graph& graph, const Weights& weights) {
  Value options = Value::map();
  for (const char* kind : {"normal", "reduce"}) {
    const Node& alpha = graph.node(std::string("alpha_") + kind);
    const at::Tensor values = coefficient_values(graph, weights, alpha.outputs[0]).softmax(-1);
    options[kind] = derived_operations(o, values);
  }
  return options;
}

Graph darts_v1(const DartsOptions& o, const InputSpec& input, const TargetSpec& target) {
  return darts(o, v1, input, target);
}
Graph darts_v2(const DartsOptions& o, const InputSpec& input, const TargetSpec& target) {
  return darts(o, v2, input, target);
}

}  // namespace

ESPALIER_PLUGIN("darts", "1.0.0",
                backbone<DartsOptions>("darts", "DARTS' evaluation network from a genotype (its second-order one)",
                                       darts_v2),
                backbone<DartsOptions>("darts_v1", "DARTS' evaluation network, genotype of the first order", darts_v1),
                backbone<DartsOptions>("darts_v2", "DARTS' evaluation network, genotype of the second order", darts_v2),
                backbone<DartsSearchOptions>("darts_search", "DARTS' search network, all operations on each edge",
                                             darts_search, derived_genotype));

}  // namespace espalier
