#include "vtp.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/score.h>

#include "scored.h"

namespace espalier {

namespace {

// Layers that read the same features, with scores of their own for these: queries, keys and values together, and each
// other layer alone.
struct Readers {
  std::string name;                // of the first of them
  std::vector<std::string> nodes;  // all of them
  bool hidden = false;  // whether they are the hidden units of an MLP, which go with the layer that makes them
};

// Where one layer begins to read by itself: its view, or null.
const Node* view_of(const Graph& graph, const std::string& reader) {
  const Node* maker = maker_of(graph, graph.node(reader).inputs.front());
  if (maker && is_gate(*maker)) maker = maker_of(graph, maker->inputs.front());
  return maker && maker->name == reader + ".view" ? maker : nullptr;
}

// The linear layers of each attention and of each MLP.
std::vector<Readers> readers(const Graph& graph) {
  std::vector<Readers> all;
  for (const Node& n : graph.nodes()) {
    if (is_attention(n)) {
      Readers embeddings;
      for (size_t i = 0; i < 3; ++i) {
        const Node* maker = maker_of(graph, n.inputs[i]);
        if (maker && maker->op->type() == "linear") embeddings.nodes.push_back(maker->name);
      }
      if (embeddings.nodes.size() != 3) continue;
      embeddings.name = embeddings.nodes.front();
      const Node* reader = sole_reader(graph, n.outputs.front());
      while (reader && (is_gate(*reader) || reader->op->type() == "select"))
        reader = sole_reader(graph, reader->outputs.front());
      all.push_back(std::move(embeddings));
      if (reader && reader->op->type() == "linear") all.push_back({reader->name, {reader->name}});
    }
    if (const Mlp mlp = mlp_of(graph, n); mlp.second) {
      all.push_back({n.name, {n.name}});
      all.push_back({mlp.second->name, {mlp.second->name}, /*hidden=*/true});
    }
  }
  return all;
}

}  // namespace

// VTP (Zhu et al. 2021), with which paper 003 compares SiDT: scores multiply the features that the linear layers of
// attention and MLP read. Queries, keys and values read the same ones. A layer reads its features through a view with
// an axis of its own, so that the residual stream stays; hidden units go with the layer that makes them.
class Vtp final : public ScoreSearch {
 public:
  struct Options {
    double ratio = 0.2;
    std::string scope = "global";
    int64_t keep = 1;
    bool fold = true;

    static void declare(Declare<Options>& p) {
      p("ratio", &Options::ratio, at_least(0), below(1),
        "Share of the scores whose features go when the stage ends; 0: none, for a stage that only searches.");
      p("scope", &Options::scope, one_of({"global", "layer"}),
        "What is ranked together; global: all scores; layer: those of each layer, which then lose the same share.");
      p("keep", &Options::keep, at_least(1), "Features that each layer reads in any case.");
      p("fold", &Options::fold, "Whether the scores become part of the layers, which changes no output.");
    }
  };

  explicit Vtp(const Options& o) : ScoreSearch({o.ratio, o.scope, o.keep, o.fold}) {}

 private:
  bool fits(const Graph& graph) const override { return !readers(graph).empty(); }

  Edits splits(const Graph& graph) const override {
    Edits edits;
    for (const Readers& r : readers(graph)) {
      if (r.hidden) continue;
      for (const std::string& node : r.nodes) {
        if (!view_of(graph, node)) edits.push_back({SplitOff{.node = node, .input = 0, .view = node + ".view"}});
      }
    }
    return edits;
  }

  std::vector<Scored> scored(const Graph& graph) const override {
    std::vector<Scored> all;
    for (const Readers& r : readers(graph)) {
      Scored s{.name = r.name};
      for (const std::string& node : r.nodes) {
        const Edge edge = graph.node(node).inputs.front();
        if (r.hidden || view_of(graph, node)) add_edge(graph, s, graph[edge].shape.back().whole(), edge, node);
      }
      if (s.edges.size() == r.nodes.size()) all.push_back(std::move(s));
    }
    return all;
  }
};

Component vtp_controller() {
  return component<Vtp>("vtp", "scores on the features that layers of transformers read, of which the smallest go")
      .publish("kept", "the share of features that each layer reads");
}

}  // namespace espalier
