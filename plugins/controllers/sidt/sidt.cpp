#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>

#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>
#include <espalier/score.h>

#include "scored.h"
#include "vtp.h"

namespace espalier {

namespace {

// The head dimension of queries, keys or values.
Axis head_dimension(const Graph& graph, Edge e) {
  const Dim& d = graph[e].shape.back();
  return d.segments.size() == 1 && d.segments[0].factors.size() == 2 ? d.segments[0].factors[1].axis : Axis{};
}

}  // namespace

// SiDT (paper 003, section 4.3): scores multiply the dimensions of a transformer while it trains, under an l1 penalty
// (the regularizer `l1` with `on: architecture`). One score stands for a dimension of queries, keys and values at once,
// in all heads and all windows of an attention; one stands for each hidden unit of an MLP. Ranked are all scores
// together (003-X24), each of an attention as one, whichever number of channels it takes.
class Sidt final : public ScoreSearch {
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

  explicit Sidt(Options o) : ScoreSearch({o.ratio, o.scope, o.keep, o.fold}), o_(std::move(o)) {
    if (!o_.attention && o_.mlp == "none")
      throw Error("with `attention: false` and `mlp: none` there is nothing to score; leave one of them out");
    if (o_.ratio == 0 && o_.rank != "scores")
      throw Error("'ratio' is 0 and `rank: " + o_.rank + "` puts no scores into the network: nothing would happen");
  }

  std::vector<std::string> idle(const Graph& graph, int64_t epochs) const override {
    std::vector<std::string> lines = ScoreSearch::idle(graph, epochs);
    if (o_.ratio == 0 && o_.rescale) lines.emplace_back("'rescale' is without effect where 'ratio' is 0");
    return lines;
  }

 private:
  bool has_gates() const override { return o_.rank == "scores"; }

  std::vector<Scored> scored(const Graph& graph) const override {
    std::vector<Scored> all;
    for (const Node& n : graph.nodes()) {
      if (o_.attention && is_attention(n)) {
        Scored s{.name = n.name, .is_attention = true};
        for (size_t i = 0; i < 3; ++i) {
          const Axis axis = head_dimension(graph, n.inputs[i]);
          if (axis.id < 0 || graph[axis].fixed) break;
          add_edge(graph, s, axis, n.inputs[i], n.name);
        }
        const bool same =
            std::ranges::all_of(s.axes, [&](Axis a) { return graph[a].size == graph[s.axes.front()].size; });
        if (s.edges.size() == 3 && same) all.push_back(std::move(s));
      }
      if (o_.mlp == "none") continue;
      const Mlp mlp = mlp_of(graph, n);
      if (!mlp.second) continue;
      Scored s{.name = n.name};
      const bool before = o_.mlp == "before";
      add_edge(graph, s, graph[mlp.hidden].shape.back().whole(),
               mlp.gate ? mlp.gate->outputs.front() : (before ? mlp.hidden : mlp.activated),
               before ? mlp.behind : mlp.second->name);
      all.push_back(std::move(s));
    }
    return all;
  }

  std::vector<double> ranks(Run& run, const Scored& s) const override {
    if (o_.rank == "scores") return ScoreSearch::ranks(run, s);
    const Graph& graph = run.graph();
    const int64_t size = graph[s.axes.front()].size;
    std::vector<double> result(static_cast<size_t>(size), 0);
    if (o_.rank == "random") {
      const at::Tensor u = uniform({size}, 0, 1, run.key().with("sidt.rank").with(s.name));
      for (int64_t i = 0; i < size; ++i) result[static_cast<size_t>(i)] = u.const_data_ptr<double>()[i];
      return result;
    }
    double count = 0;
    for (const Axis axis : s.axes) {
      for (const ParamId p : graph.producers(axis)) {
        const at::Tensor rows = rows_of(graph, run.weights()[p].detach(), graph[p].shape, axis, makes(graph, p, axis));
        const at::Tensor squares = rows.square().sum(1).contiguous();
        for (int64_t i = 0; i < size; ++i) result[static_cast<size_t>(i)] += squares.const_data_ptr<double>()[i];
        count += static_cast<double>(rows.size(1));
      }
    }
    for (double& r : result) r /= std::max(1.0, count);
    return result;
  }

  // The scale of an attention that has fewer dimensions: a factor on what makes its queries.
  void removed(Run& run, const Scored& s, int64_t before) const override {
    if (!o_.rescale || !s.is_attention) return;
    const Graph& graph = run.graph();
    Edge q = graph.node(s.name).inputs.front();
    const auto left = static_cast<double>(graph[head_dimension(graph, q)].size);
    const Node* maker = maker_of(graph, q);
    if (maker && is_gate(*maker)) maker = maker_of(graph, maker->inputs.front());
    if (!maker || maker->op->scaling() != Operation::Scaling::absorbs)
      throw Error("`rescale` needs queries that a linear layer makes; those of '" + s.name + "' are made otherwise");
    for (const ParamId p : maker->parameters) {
      if (graph[p].role != Role::weight) continue;
      at::Tensor w = run.weights()[p].detach();
      w.mul_(std::sqrt(static_cast<double>(before) / left));
    }
    run.weights().bank(Role::weight).values.touch();
  }

  Options o_;
};

ESPALIER_PLUGIN("sidt", "1.0.0",
                component<Sidt>("sidt", "scores on the dimensions of transformers, of which the smallest go")
                    .publish("kept", "the share of dimensions that each attention and each MLP keeps"),
                vtp_controller());

}  // namespace espalier
