#pragma once

#include <string>
#include <utility>
#include <vector>

#include <espalier/controller.h>
#include <espalier/foresight.h>

namespace espalier {

// Dimensions that are scored together and go together, such as those of the heads of one attention.
struct Scored {
  std::string name;                    // of the layer that they belong to
  std::vector<Axis> axes{};            // that lose the same positions, all of one size
  std::vector<Edge> edges{};           // that the scores multiply, each along one of the axes
  std::vector<std::string> readers{};  // of each edge: what reads the product
  std::vector<std::string> gates{};    // that stand there; empty: none yet
  Indices coefficients{};              // of each position of the axes its place among the scores, if there are gates
  bool is_attention = false;           // whether they are dimensions of queries, keys and values
};

// What the controllers of this plugin share. Scores multiply dimensions while a stage trains; they begin as 1. When it
// ends, the dimensions with the smallest sizes of scores go, and the scores of the others become part of the layers.
class ScoreSearch : public Controller, public Foresight {
 public:
  // Which scores go.
  struct Rules {
    double ratio;       // share of the scores, from 0 to below 1
    std::string scope;  // what is ranked together: global or layer
    int64_t keep;       // how many of each Scored stay in any case
    bool fold;          // whether the scores become part of the layers
  };

  Edits begin(const Graph& graph) const override;
  void check(const Graph& graph) const override;
  std::vector<std::string> idle(const Graph& graph, int64_t epochs) const override;
  Edits expected_edits(const Graph& graph) const override;
  Foreseen foresees(const Graph& graph, const Weights* values) const override;
  void stage_begin(Run& run) override;
  void resume(Run& run, const Value& state) override;
  void epoch_end(Run& run) override;
  void stage_end(Run& run) override;

 protected:
  explicit ScoreSearch(Rules rules) : rules_(std::move(rules)) {}

  // Returns what is scored; of what has gates already, with these.
  virtual std::vector<Scored> scored(const Graph& graph) const = 0;
  // Returns the edits that give what is scored axes of its own.
  virtual Edits splits(const Graph& graph) const;
  // Returns whether the network has what could be scored, also before splits().
  virtual bool fits(const Graph& graph) const;
  // Returns whether scores are put into the network.
  virtual bool has_gates() const { return true; }
  // Returns what is compared: of each position a number. The smallest go first.
  virtual std::vector<double> ranks(Run& run, const Scored& s) const;
  // Called when dimensions went, with the size of the axes before.
  virtual void removed(Run&, const Scored&, int64_t) const {}

  const Rules& rules() const { return rules_; }

 private:
  int64_t gone_of(int64_t size) const;
  int64_t to_go_of(int64_t count) const;
  std::vector<Indices> choose(const std::vector<std::vector<double>>& ranks) const;
  void add_folds(const std::vector<Scored>& all, Edits& edits) const;
  void prune(Run& run);
  void record(Run& run) const;

  Rules rules_;
};

// Returns the node of this name, or null.
const Node* find(const Graph& graph, const std::string& name);
// Returns the node that makes the edge; null: it is an input of the network.
const Node* maker_of(const Graph& graph, Edge e);
// Returns whether a node computes attention, of queries, keys and values.
bool is_attention(const Node& n);
// Returns whether a node is a gate with scores.
bool is_gate(const Node& n);

// A linear layer, an activation and another linear layer, of which each alone reads the one before.
struct Mlp {
  const Node* second = nullptr;  // the second layer; null: the layer does not begin an MLP
  const Node* gate = nullptr;    // with scores, between them
  Edge hidden{};                 // what the first layer makes
  Edge activated{};              // what the second layer reads, but for a gate
  std::string behind{};          // what reads `hidden`, but for a gate
};
// Returns the MLP that a linear layer begins.
Mlp mlp_of(const Graph& graph, const Node& first);

// Adds what `reader` reads to the edges that are multiplied along the axis; a gate with scores that stands on the edge
// already is found.
void add_edge(const Graph& graph, Scored& s, Axis axis, Edge edge, const std::string& reader);

}  // namespace espalier
