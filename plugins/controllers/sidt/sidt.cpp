#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>

namespace espalier {

namespace {

constexpr const char* suffix = ".scores";  // of the nodes of coefficients and gates

bool is_attention(const Node& n) {
  return n.op->type() == "attention" || n.op->type() == "window_attention";
}
bool is_activation(const Node& n) {
  static const std::set<std::string> types{"relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "dropout"};
  return types.contains(n.op->type());
}
bool is_gate(const Node& n) {
  return n.op->type() == "gate" && n.name.ends_with(suffix);
}
const Node* find(const Graph& graph, const std::string& name) {
  const auto it = std::ranges::find(graph.nodes(), name, &Node::name);
  return it == graph.nodes().end() ? nullptr : &*it;
}
const Node* maker_of(const Graph& graph, Edge e) {
  return graph[e].producer < 0 ? nullptr : &graph.nodes()[static_cast<size_t>(graph[e].producer)];
}

// Dimensions that are scored together: those of the heads of one attention, or the hidden units of one MLP.
struct Scored {
  std::string name;           // of the attention, or of the MLP's first layer
  std::vector<Axis> axes{};   // that lose the same positions: of queries and keys, and of values; of the hidden units
  std::vector<Edge> edges{};  // that the scores multiply, each along one of the axes
  std::vector<std::string> readers{};  // of each edge
  std::vector<std::string> gates{};    // that stand there; empty: none yet
  Indices coefficients{};              // of each position of the axes its place among the scores, if there are gates
  bool is_attention = false;
};

// The head dimension of queries, keys or values.
Axis head_dimension(const Graph& graph, Edge e) {
  const Dim& d = graph[e].shape.back();
  return d.segments.size() == 1 && d.segments[0].factors.size() == 2 ? d.segments[0].factors[1].axis : Axis{};
}

Indices index_of(const Node& gate, int64_t size) {
  Indices index;
  const Value options = gate.op->options();
  for (const Value& i : options.at("index").as_list()) index.push_back(i.as_int());
  if (!index.empty()) return index;
  index.resize(static_cast<size_t>(size));
  std::iota(index.begin(), index.end(), 0);
  return index;
}

}  // namespace

// SiDT (paper 003, section 4.3): scores multiply the dimensions of a transformer while it trains, under an l1 penalty
// (the regularizer `l1` with `on: architecture`). One score stands for a dimension of queries, keys and values at once,
// in all heads and all windows of an attention; one stands for each hidden unit of an MLP. They begin as 1. When the
// stage ends, the dimensions with the smallest sizes of scores go, and the scores of the others become part of the
// layers. Ranked are all scores together (003-X24), each of an attention as one, whichever number of channels it takes.
class Sidt final : public Controller, public Foresight {
 public:
  struct Options {
    double ratio = 0.2;
    std::string scope = "global";
    std::string rank = "scores";
    std::string mlp = "before";
    bool attention = true;
    bool rescale = false;
    int64_t keep = 1;
    bool fold = true;

    static void declare(Declare<Options>& p) {
      p("ratio", &Options::ratio, at_least(0), below(1),
        "Share of the scores whose dimensions go when the stage ends; 0: none, for a stage that only searches.");
      p("scope", &Options::scope, one_of({"global", "layer"}),
        "What is ranked together; global: all scores; layer: those of each attention and of each MLP, which then lose "
        "the same share.");
      p("rank", &Options::rank, one_of({"scores", "magnitude", "random"}),
        "What goes first; scores: the smallest scores; magnitude: the dimensions whose weights have the smallest mean "
        "square; random: any. The last two put no scores into the network, and are there to compare.");
      p("mlp", &Options::mlp, one_of({"before", "after", "none"}),
        "Where the scores of hidden units stand; before: on the first layer's output, as printed; after: behind the "
        "activation, as in the program that the thesis cites; none: hidden units are not scored.");
      p("attention", &Options::attention, "Whether the dimensions of heads are scored.");
      p("rescale", &Options::rescale,
        "Whether the scale of the products of queries and keys becomes that of the dimensions that are left. If not, "
        "it stays, so that dimensions with scores of zero go without a trace.");
      p("keep", &Options::keep, at_least(1), "Dimensions that each attention and each MLP keeps in any case.");
      p("fold", &Options::fold, "Whether the scores become part of the layers, which changes no output.");
    }
  };

  explicit Sidt(Options o) : o_(std::move(o)) {
    if (!o_.attention && o_.mlp == "none")
      throw Error("with `attention: false` and `mlp: none` there is nothing to score; leave one of them out");
    if (o_.ratio == 0 && o_.rank != "scores")
      throw Error("'ratio' is 0 and `rank: " + o_.rank + "` puts no scores into the network: nothing would happen");
  }

  Edits begin(const Graph& graph) const override {
    Edits edits;
    check(graph);
    if (o_.rank != "scores") return edits;
    for (const Scored& s : scored(graph)) {
      if (!s.gates.empty()) continue;
      InsertGates insert{.coefficients = s.name + suffix,
                         .operation = Value::map({{"use", "coefficient"}, {"role", "architecture"}}),
                         .count = graph[s.axes.front()].size,
                         .places = {}};
      for (size_t i = 0; i < s.edges.size(); ++i) {
        const Shape& shape = graph[s.edges[i]].shape;
        const Dim& channels = shape[channel_dim(shape)];
        const auto axis = std::ranges::find_if(s.axes, [&](Axis a) { return channels.reads(a); });
        insert.places.push_back({.gate = graph[s.edges[i]].name + suffix,
                                 .edge = graph[s.edges[i]].name,
                                 .readers = {s.readers[i]},
                                 .index = axis_positions(graph, channels, *axis)});
        // The one gate of an MLP would have the name of its coefficients.
        if (insert.places.back().gate == insert.coefficients) insert.coefficients += "_of_units";
      }
      edits.push_back({std::move(insert)});
    }
    return edits;
  }

  void check(const Graph& graph) const override {
    if (scored(graph).empty())
      throw Error(
          "the network has no attention and no MLP of a transformer; `describe backbone` lists vit_tiny and "
          "swin_t, which have");
  }

  std::vector<std::string> idle(const Graph&, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.ratio == 0 && o_.rescale) lines.emplace_back("'rescale' is without effect where 'ratio' is 0");
    if (o_.ratio == 0 && o_.scope != Options().scope)
      lines.emplace_back("'scope' is without effect where 'ratio' is 0");
    return lines;
  }

  Edits expected_edits(const Graph& graph) const override {
    if (o_.scope != "layer" && o_.ratio > 0) return {};
    Edits edits;
    const std::vector<Scored> all = scored(graph);
    for (const Scored& s : all) {
      const int64_t size = graph[s.axes.front()].size, left = size - gone_of(size);
      if (left == size) continue;
      Indices keep(static_cast<size_t>(left));
      std::iota(keep.begin(), keep.end(), 0);
      for (const Axis a : s.axes) edits.push_back(shrink(graph, a, keep));
    }
    add_folds(all, edits);
    return edits;
  }
  Foreseen foresees(const Graph& graph, const Weights*) const override {
    if (o_.scope == "layer" || o_.ratio == 0) return {};
    Edits folds;
    add_folds(scored(graph), folds);
    return {std::move(folds), "how many dimensions of each layer go is found in the run, of the scores that it trains"};
  }

  void stage_begin(Run& run) override {
    check(run.graph());
    record(run);
  }
  void resume(Run&, const Value&) override {}
  void epoch_end(Run& run) override { record(run); }

  void stage_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    record(run);
    prune(run);
    if (!o_.fold || o_.rank != "scores") return;
    Edits folds;
    add_folds(scored(run.graph()), folds);
    if (o_.ratio > 0 && !folds.empty()) run.edit(folds);
  }

 private:
  // How many of so many go, where each layer keeps the same share, rounded.
  int64_t gone_of(int64_t size) const {
    const int64_t gone = size - std::llround((1 - o_.ratio) * static_cast<double>(size));
    return std::clamp<int64_t>(gone, 0, std::max<int64_t>(0, size - o_.keep));
  }

  std::vector<Scored> scored(const Graph& graph) const {
    std::vector<Scored> all;
    for (const Node& n : graph.nodes()) {
      if (o_.attention && is_attention(n)) {
        Scored s{.name = n.name, .is_attention = true};
        std::set<int32_t> seen;
        for (size_t i = 0; i < 3; ++i) {
          const Axis axis = head_dimension(graph, n.inputs[i]);
          if (axis.id < 0 || graph[axis].fixed) break;
          if (seen.insert(axis.id).second) s.axes.push_back(axis);
          add_edge(graph, s, n.inputs[i], n.name);
        }
        const bool same =
            std::ranges::all_of(s.axes, [&](Axis a) { return graph[a].size == graph[s.axes.front()].size; });
        if (s.edges.size() == 3 && same) all.push_back(std::move(s));
      }
      if (o_.mlp != "none" && n.op->type() == "linear") add_mlp(graph, n, all);
    }
    return all;
  }

  // What reads the edge is multiplied; a gate that stands on it already is found.
  static void add_edge(const Graph& graph, Scored& s, Edge edge, const std::string& reader) {
    const Node* gate = maker_of(graph, edge);
    if (gate && is_gate(*gate)) {
      s.gates.push_back(gate->name);
      if (s.coefficients.empty()) {
        const Shape& shape = graph[edge].shape;
        const Dim& channels = shape[channel_dim(shape)];
        const Indices index = index_of(*gate, graph.size(channels));
        const Axis axis = s.axes.back();
        const Indices positions = axis_positions(graph, channels, axis);
        for (int64_t p = 0; p < graph[axis].size; ++p) {
          const auto at = std::ranges::find(positions, p) - positions.begin();
          s.coefficients.push_back(index[static_cast<size_t>(at)]);
        }
      }
      edge = gate->inputs.front();
    }
    s.edges.push_back(edge);
    s.readers.push_back(reader);
  }

  // A linear layer, an activation and another linear layer, of which each alone reads the one before.
  void add_mlp(const Graph& graph, const Node& first, std::vector<Scored>& all) const {
    Edge e = first.outputs.front();
    const Axis axis = graph[e].shape.back().whole();
    if (axis.id < 0 || graph[axis].fixed) return;
    Edge place = e;
    const Node* reader = sole_reader(graph, e);
    const Node* gate = nullptr;
    bool active = false;
    std::string behind;  // what reads the place
    while (reader && (is_activation(*reader) || is_gate(*reader))) {
      if (is_gate(*reader)) gate = reader;
      if (o_.mlp == "before" && behind.empty() && !is_gate(*reader)) behind = reader->name;
      active = active || (!is_gate(*reader) && reader->op->type() != "dropout");
      e = reader->outputs.front();
      if (o_.mlp == "after" && !is_gate(*reader)) place = e;
      reader = sole_reader(graph, e);
    }
    if (!active || !reader || reader->op->type() != "linear") return;
    if (o_.mlp == "after") behind = reader->name;
    Scored s{.name = first.name, .axes = {axis}};
    add_edge(graph, s, gate ? gate->outputs.front() : place, behind);
    all.push_back(std::move(s));
  }

  void add_folds(const std::vector<Scored>& all, Edits& edits) const {
    if (!o_.fold) return;
    for (const Scored& s : all) {
      for (const std::string& gate : s.gates) edits.push_back({FoldGate{gate}});
    }
  }

  // What is compared: of each position a number, the smallest go first.
  std::vector<double> ranks(Run& run, const Scored& s) const {
    const Graph& graph = run.graph();
    const int64_t size = graph[s.axes.front()].size;
    std::vector<double> result(static_cast<size_t>(size), 0);
    if (o_.rank == "random") {
      const at::Tensor u = uniform({size}, 0, 1, run.key().with("sidt.rank").with(s.name));
      for (int64_t i = 0; i < size; ++i) result[static_cast<size_t>(i)] = u.const_data_ptr<double>()[i];
    } else if (o_.rank == "magnitude") {
      double count = 0;
      for (const Axis axis : s.axes) {
        for (const ParamId p : graph.producers(axis)) {
          const at::Tensor rows =
              rows_of(graph, run.weights()[p].detach(), graph[p].shape, axis, makes(graph, p, axis));
          const at::Tensor squares = rows.square().sum(1).contiguous();
          for (int64_t i = 0; i < size; ++i) result[static_cast<size_t>(i)] += squares.const_data_ptr<double>()[i];
          count += static_cast<double>(rows.size(1));
        }
      }
      for (double& r : result) r /= std::max(1.0, count);
    } else {
      const Node* gate = find(graph, s.gates.front());
      const Node* maker = gate ? maker_of(graph, gate->inputs[1]) : nullptr;
      if (!maker || maker->parameters.size() != 1)
        throw Error("the scores of '" + s.name + "' are no longer free coefficients");
      const at::Tensor values =
          run.weights()[maker->parameters.front()].detach().to(at::kCPU, at::kDouble).flatten().contiguous();
      for (int64_t i = 0; i < size; ++i) {
        const int64_t at = s.coefficients[static_cast<size_t>(i)];
        result[static_cast<size_t>(i)] = std::abs(values.const_data_ptr<double>()[at]);
      }
    }
    return result;
  }

  void prune(Run& run) {
    if (o_.ratio == 0) return;
    const Graph& graph = run.graph();
    const std::vector<Scored> all = scored(graph);
    struct Position {
      double rank;
      size_t layer;
      int64_t at;
    };
    std::vector<Position> order;
    std::vector<int64_t> left;
    for (size_t l = 0; l < all.size(); ++l) {
      const std::vector<double> r = ranks(run, all[l]);
      left.push_back(static_cast<int64_t>(r.size()));
      for (size_t i = 0; i < r.size(); ++i) order.push_back({r[i], l, static_cast<int64_t>(i)});
    }
    std::ranges::stable_sort(order, {}, &Position::rank);
    std::vector<int64_t> may_go;  // of each layer
    for (const int64_t size : left) may_go.push_back(o_.scope == "layer" ? gone_of(size) : size - o_.keep);
    int64_t to_go = o_.scope == "layer" ? std::accumulate(may_go.begin(), may_go.end(), int64_t{0})
                                        : static_cast<int64_t>(o_.ratio * static_cast<double>(order.size()) + 1e-9);
    std::vector<Indices> gone(all.size());
    for (const Position& p : order) {
      if (to_go == 0) break;
      if (may_go[p.layer] <= 0) continue;
      --may_go[p.layer];
      --to_go;
      gone[p.layer].push_back(p.at);
    }
    Edits edits;
    Value kept = Value::map();
    std::vector<std::pair<std::string, double>> rescaled;
    for (size_t l = 0; l < all.size(); ++l) {
      const int64_t size = left[l], stays = size - static_cast<int64_t>(gone[l].size());
      kept[all[l].name] = static_cast<double>(stays) / static_cast<double>(size);
      if (stays == size) continue;
      std::ranges::sort(gone[l]);
      for (const Axis a : all[l].axes) edits.push_back(shrink(graph, a, complement(gone[l], size)));
      if (o_.rescale && all[l].is_attention)
        rescaled.emplace_back(all[l].name, std::sqrt(static_cast<double>(size) / static_cast<double>(stays)));
    }
    if (!edits.empty()) run.edit(edits);
    for (const auto& [name, factor] : rescaled) multiply_queries(run, name, factor);
    run.publish("kept", {std::move(kept)});
  }

  // The scale of an attention that has fewer dimensions: a factor on what makes its queries.
  static void multiply_queries(Run& run, const std::string& attention, double factor) {
    const Graph& graph = run.graph();
    Edge q = graph.node(attention).inputs.front();
    const Node* maker = maker_of(graph, q);
    if (maker && is_gate(*maker)) maker = maker_of(graph, maker->inputs.front());
    if (!maker || maker->op->scaling() != Operation::Scaling::absorbs)
      throw Error("`rescale` needs queries that a linear layer makes; those of '" + attention + "' are made otherwise");
    for (const ParamId p : maker->parameters) {
      if (graph[p].role != Role::weight) continue;
      at::Tensor w = run.weights()[p].detach();
      w.mul_(factor);
    }
    run.weights().bank(Role::weight).values.touch();
  }

  void record(Run& run) const {
    if (o_.rank != "scores") return;
    const c10::NoGradGuard no_grad;
    int64_t small = 0, count = 0;
    for (const Scored& s : scored(run.graph())) {
      if (s.gates.empty()) continue;
      const std::vector<double> r = ranks(run, s);
      count += static_cast<int64_t>(r.size());
      small += std::ranges::count_if(r, [](double v) { return v < 1e-2; });
    }
    run.metric("scores", static_cast<double>(count));
    run.metric("small_scores", static_cast<double>(small));
  }

  Options o_;
};

ESPALIER_PLUGIN("sidt", "1.0.0",
                component<Sidt>("sidt", "scores on the dimensions of transformers, of which the smallest go")
                    .publish("kept", "the share of dimensions that each attention and each MLP keeps"));

}  // namespace espalier
