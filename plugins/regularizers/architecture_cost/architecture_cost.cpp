#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros_like.h>

#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/latency.h>
#include <espalier/mixture.h>
#include <espalier/plugin.h>
#include <espalier/regularizer.h>

namespace espalier {

// The penalty P(alpha) of paper 003, (2.38), on what the operations of a search network cost: weight times the sum over
// all mixtures of <coefficients, costs>. The coefficients of search networks are softmax(alpha), so this is the cost of
// the operations that would be drawn from them. A component of a mixture costs what all nodes cost that nothing else
// reads: of a separable convolution the ReLU, the convolutions and the batch norms.
class ArchitectureCost final : public AutogradRegularizer {
 public:
  struct Options {
    double weight = 1e-3;
    std::string cost = "macs";
    std::string table;
    bool any_device = false;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
      p("cost", &Options::cost, one_of({"macs", "params", "latency"}),
        "What an operation costs; macs: millions of multiply-accumulates for a sample; params: millions of parameters; "
        "latency: milliseconds by a table.");
      p("table", &Options::table, path(),
        "Table of latencies that `espalier latency` measured for the search network; only with the cost latency.");
      p("any_device", &Options::any_device, "Whether the table may be of a device that this machine does not have.");
    }
  };
  explicit ArchitectureCost(Options options) : o_(std::move(options)) {
    if (o_.cost != "latency" && (!o_.table.empty() || o_.any_device))
      throw Error("'table' and 'any_device' belong to the cost latency: leave them out");
    if (o_.cost != "latency") return;
    if (o_.table.empty()) throw Error("the cost latency needs a 'table'; `espalier latency` measures one");
    table_ = LatencyTable::read(o_.table);
    if (!o_.any_device) table_->require_device();
  }

  void attach(const Graph& graph, Weights& weights) override {
    const std::vector<MixtureTerm> terms = mixture_terms(graph);
    if (terms.empty()) throw Error("the network has no mixtures of operations, so no operation has a cost");
    std::map<int32_t, std::map<int64_t, double>> costs;  // of each edge of coefficients, by position
    const Readers readers = readers_of(graph);
    for (const MixtureTerm& t : terms)
      costs[t.coefficients.id][t.row * columns(graph, t.coefficients) + t.column] += cost_of(graph, readers, t);
    searched_ = graph;
    outputs_.clear();
    factors_.clear();
    for (const auto& [edge, by_position] : costs) {
      const Edge coefficients{edge};
      // Throws if they depend on the sample, which has no one cost.
      at::Tensor factors = at::zeros_like(coefficient_values(graph, weights, coefficients));
      for (const auto& [position, cost] : by_position) factors.view(-1)[position] = o_.weight * cost;
      factors_.push_back(factors.to(weights.device(), weights.dtype()));
      outputs_.push_back("architecture_cost." + std::to_string(edge));
      searched_.add_output(outputs_.back(), coefficients);
    }
  }

  at::Tensor penalty(const Graph&, const Weights& weights) override {
    const std::vector<at::Tensor> coefficients =
        run(searched_, weights, {}, std::vector<std::string_view>(outputs_.begin(), outputs_.end()));
    at::Tensor sum;
    for (size_t i = 0; i < factors_.size(); ++i) {
      const at::Tensor part = (coefficients[i].squeeze(0) * factors_[i]).sum();
      sum = sum.defined() ? sum + part : part;
    }
    return sum;
  }

 private:
  static int64_t columns(const Graph& graph, Edge coefficients) { return graph.size(graph[coefficients].shape.back()); }

  double cost_of(const Graph& graph, const Node& node) const {
    constexpr double million = 1e6;
    if (o_.cost == "macs") return static_cast<double>(graph.macs(node)) / million;
    if (o_.cost == "params") return static_cast<double>(graph.parameter_count(node)) / million;
    return table_->ms(graph, node);
  }

  // Who reads each edge: a node, and which of its inputs. What the network gives out is read by node -1.
  struct Reader {
    int32_t node = -1;
    size_t input = 0;
  };
  using Readers = std::vector<std::vector<Reader>>;
  static Readers readers_of(const Graph& graph) {
    Readers readers(graph.edges().size());
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const std::vector<Edge>& inputs = graph.nodes()[n].inputs;
      for (size_t i = 0; i < inputs.size(); ++i)
        readers[static_cast<size_t>(inputs[i].id)].push_back({static_cast<int32_t>(n), i});
    }
    for (const Port& port : graph.outputs()) readers[static_cast<size_t>(port.edge.id)].push_back({});
    return readers;
  }

  // What a component costs: all nodes whose outputs nothing but it reads. Nodes are in topological order, so those that
  // read a node are decided before it.
  double cost_of(const Graph& graph, const Readers& readers, const MixtureTerm& term) const {
    std::set<int32_t, std::greater<>> own, open{term.producer};
    double cost = 0;
    while (!open.empty() && *open.begin() >= 0) {
      const int32_t number = *open.begin();
      open.erase(open.begin());
      const Node& node = graph.nodes()[static_cast<size_t>(number)];
      const bool is_own = std::ranges::all_of(node.outputs, [&](Edge e) {
        return std::ranges::all_of(readers[static_cast<size_t>(e.id)], [&](const Reader& r) {
          return own.contains(r.node) || (r.node == term.node && r.input == term.input);
        });
      });
      if (!is_own) continue;
      own.insert(number);
      cost += cost_of(graph, node);
      for (const Edge e : node.inputs) open.insert(graph[e].producer);
    }
    return cost;
  }

  Options o_;
  std::optional<LatencyTable> table_;
  Graph searched_;  // with the coefficients as outputs
  std::vector<std::string> outputs_;
  std::vector<at::Tensor> factors_;
};

ESPALIER_PLUGIN("architecture_cost", "1.0.0",
                component<ArchitectureCost>("architecture_cost",
                                            "expected cost of the operations of a search network"));

}  // namespace espalier
