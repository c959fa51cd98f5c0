#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

#include <ATen/ops/argmax.h>

#include <espalier/backbone.h>
#include <espalier/mixture.h>
#include <espalier/plugin.h>

#include "../search_space.h"

namespace espalier {

struct NasBench201Options {
  std::string cell;
  int64_t channels = 16;
  int64_t cells = 5;

  static void declare(Declare<NasBench201Options>& p) {
    p("cell", &NasBench201Options::cell, required(),
      "Operations of the edges, such as "
      "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|.");
    p("channels", &NasBench201Options::channels, at_least(1),
      "Filters of the first stage. Each further stage has twice as many.");
    p("cells", &NasBench201Options::cells, at_least(1), at_most(1000), "Number of cells in each of the three stages.");
  }
};

struct NasBench201SearchOptions {
  int64_t channels = 16;
  int64_t cells = 5;
  bool track_running_stats = false;
  std::vector<std::string> operations;
  bool derive_none = true;

  static void declare(Declare<NasBench201SearchOptions>& p) {
    p("channels", &NasBench201SearchOptions::channels, at_least(1),
      "Filters of the first stage. Each further stage has twice as many.");
    p("cells", &NasBench201SearchOptions::cells, at_least(1), at_most(1000),
      "Number of cells in each of the three stages.");
    p("track_running_stats", &NasBench201SearchOptions::track_running_stats,
      "Whether batch norms of the cells evaluate with running statistics. If not, they use those of the "
      "batch, as in the paper.");
    p("operations", &NasBench201SearchOptions::operations,
      "Operations on each edge, in any order: two or more of none, skip_connect, nor_conv_1x1, nor_conv_3x3 and "
      "avg_pool_3x3. Left out: all of them.");
    p("derive_none", &NasBench201SearchOptions::derive_none,
      "Whether the derived cell may have the operation none, as in the program of NATS-Bench.");
  }
};

namespace {

// As the rows of alpha count them.
constexpr const char* all_operations[] = {"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"};

constexpr int edges = 6;  // 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2

std::array<std::string, edges> parse(const std::string& cell) {
  const auto fail = [&](const std::string& why) {
    throw Error("the cell '" + cell + "' is no cell of NAS-Bench-201, |op~0|+|op~0|op~1|+|op~0|op~1|op~2|: " + why);
  };
  std::array<std::string, edges> ops;
  std::string_view rest = cell;
  const auto take = [&](std::string_view text) {
    if (!rest.starts_with(text)) fail("it has another form");
    rest.remove_prefix(text.size());
  };
  size_t edge = 0;
  for (int node = 0; node < 3; ++node) {
    take(node == 0 ? "|" : "+|");
    for (int from = 0; from <= node; ++from, ++edge) {
      const std::string_view name = rest.substr(0, rest.find('~'));
      if (name.find_first_of("|+") != std::string_view::npos) fail("it has another form");
      if (std::ranges::find(all_operations, name) == std::end(all_operations))
        fail("there is no operation '" + std::string(name) + "'");
      ops[edge] = name;
      take(std::string(name) + "~" + std::to_string(from) + "|");
    }
  }
  if (!rest.empty()) fail("it has another form");
  return ops;
}

struct Layers {
  GraphBuilder& g;
  std::vector<std::string> operations{};  // of each edge of a search network

  // ReLU, convolution, batch norm.
  Edge conv(const std::string& name, Edge x, int64_t filters, int64_t kernel, int64_t stride = 1,
            const BatchNormOptions& norm = {}) const {
    const auto s = g.scope(name);
    x = g.conv("conv", g.relu(x),
               {.filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false});
    return g.batch_norm("bn", x, norm);
  }

  Edge operation(std::string_view op, const std::string& name, Edge x, const BatchNormOptions& norm = {}) const {
    if (op == "nor_conv_1x1" || op == "nor_conv_3x3")
      return conv(name, x, g.channels(x), op == "nor_conv_1x1" ? 1 : 3, 1, norm);
    if (op == "avg_pool_3x3") return g.avg_pool(x, 3, 1, 1);
    return op == "none" ? g.zeros(x) : x;
  }

  // All operations, each times its coefficient.
  Edge mixed(const std::string& name, Edge x, Edge coefficients, int64_t row, const BatchNormOptions& norm) const {
    const auto s = g.scope(name);
    std::vector<Edge> terms;
    for (const std::string& op : operations) terms.push_back(operation(op, op, x, norm));
    g.unify(terms);
    terms.push_back(coefficients);
    return g.node("weighted_sum", "mixed", terms, Value::map({{"row", row}}));
  }

  // Each of the three nodes is the sum over those before it; make(edge, name, input) gives the terms.
  template <class Make>
  Edge cell(Edge x, const Make& make) const {
    std::vector<Edge> nodes{x};
    size_t edge = 0;
    while (nodes.size() < 4) {
      std::vector<Edge> terms;
      for (size_t from = 0; from < nodes.size(); ++from, ++edge)
        terms.push_back(make(edge, "edges." + std::to_string(nodes.size()) + "." + std::to_string(from), nodes[from]));
      nodes.push_back(terms.size() > 1 ? g.add(terms) : terms[0]);
    }
    return nodes.back();
  }

  Edge reduction(Edge x, int64_t filters) const {
    const Edge y = conv("conv_b", conv("conv_a", x, filters, 3, 2), filters, 3);
    return g.add(y, g.conv("downsample", g.avg_pool(x, 2), {.filters = filters, .kernel = 1, .bias = false}));
  }
};

// Dong & Yang 2020: three stages of equal cells with residual blocks of stride 2 between.
template <class Make>
Graph network(const Layers& layers, int64_t channels, int64_t cells, const TargetSpec& target, const Make& make) {
  GraphBuilder& g = layers.g;
  Edge x = g.batch_norm("stem.bn", g.conv("stem.conv", g.input(), {.filters = channels, .padding = 1, .bias = false}));
  for (int stage = 0; stage < 3; ++stage) {
    if (stage > 0) {
      const auto s = g.scope("reductions." + std::to_string(stage - 1));
      x = layers.reduction(x, channels << stage);
    }
    for (int64_t c = 0; c < cells; ++c) {
      const auto s = g.scope("cells." + std::to_string(stage * cells + c));
      x = layers.cell(x, make);
    }
  }
  x = g.global_avg_pool(g.relu(g.batch_norm("bn", x)));
  return g.output(g.linear("fc", x, {.features = target.outputs}));
}

Graph nasbench201(const NasBench201Options& o, const InputSpec& input, const TargetSpec& target) {
  const std::array<std::string, edges> ops = parse(o.cell);
  GraphBuilder g(input);
  const Layers layers{g};
  return network(layers, o.channels, o.cells, target,
                 [&](size_t edge, const std::string& name, Edge x) { return layers.operation(ops[edge], name, x); });
}

// With all operations on each edge; all cells share their coefficients, the softmax of the rows of alpha.
Graph nasbench201_search(const NasBench201SearchOptions& o, const InputSpec& input, const TargetSpec& target) {
  GraphBuilder g(input);
  const Layers layers{g, operations_in_order(all_operations, o.operations)};
  const Edge coefficients = g.softmax(
      g.node("coefficient", "alpha", {}, Value::map({{"deviation", 1e-3}}), {edges, std::ssize(layers.operations)}));
  const BatchNormOptions norm{.affine = false, .track_running_stats = o.track_running_stats};
  return network(layers, o.channels, o.cells, target, [&](size_t edge, const std::string& name, Edge x) {
    return layers.mixed(name, x, coefficients, static_cast<int64_t>(edge), norm);
  });
}

// The cell of the operations with the largest coefficients, one for each edge (Dong and Yang 2020).
Value derived_cell(const NasBench201SearchOptions& o, const Graph& graph, const Weights& weights) {
  const std::vector<std::string> operations = operations_in_order(all_operations, o.operations);
  const int64_t first = !o.derive_none && operations.front() == "none" ? 1 : 0;
  const at::Tensor coefficients = coefficient_values(graph, weights, mixture_terms(graph).front().coefficients);
  const at::Tensor best = coefficients.narrow(1, first, std::ssize(operations) - first).argmax(1);
  std::string cell;
  int64_t edge = 0;
  for (int64_t node = 0; node < 3; ++node) {
    cell += node == 0 ? "|" : "+|";
    for (int64_t from = 0; from <= node; ++from, ++edge)
      cell += operations[static_cast<size_t>(best[edge].item<int64_t>() + first)] + "~" + std::to_string(from) + "|";
  }
  return Value::map({{"cell", cell}, {"channels", o.channels}, {"cells", o.cells}});
}

}  // namespace

ESPALIER_PLUGIN("nasbench201", "1.0.0",
                backbone<NasBench201Options>("nasbench201", "a network of NAS-Bench-201 from its cell", nasbench201),
                backbone<NasBench201SearchOptions>("nasbench201_search",
                                                   "the search network of NAS-Bench-201, all operations on each edge",
                                                   nasbench201_search, derived_cell));

}  // namespace espalier
