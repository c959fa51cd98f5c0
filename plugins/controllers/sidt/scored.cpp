#include "scored.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/log.h>
#include <espalier/operation.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>

namespace espalier {

namespace {

constexpr const char* suffix = ".scores";  // of the nodes of coefficients and gates

bool is_activation(const Node& n) {
  static const std::set<std::string> types{"relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "dropout"};
  return types.contains(n.op->type());
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

const Node* find(const Graph& graph, const std::string& name) {
  const auto it = std::ranges::find(graph.nodes(), name, &Node::name);
  return it == graph.nodes().end() ? nullptr : &*it;
}
const Node* maker_of(const Graph& graph, Edge e) {
  return graph[e].producer < 0 ? nullptr : &graph.nodes()[static_cast<size_t>(graph[e].producer)];
}
bool is_attention(const Node& n) {
  return n.op->type() == "attention" || n.op->type() == "window_attention";
}
bool is_gate(const Node& n) {
  return n.op->type() == "gate" && n.name.ends_with(suffix);
}

Mlp mlp_of(const Graph& graph, const Node& first) {
  Mlp mlp;
  if (first.op->type() != "linear") return mlp;
  mlp.hidden = mlp.activated = first.outputs.front();
  const Axis axis = graph[mlp.hidden].shape.back().whole();
  if (axis.id < 0 || graph[axis].fixed) return mlp;
  bool active = false;
  const Node* reader = sole_reader(graph, mlp.hidden);
  while (reader && (is_activation(*reader) || is_gate(*reader))) {
    if (is_gate(*reader)) {
      mlp.gate = reader;
    } else {
      if (mlp.behind.empty()) mlp.behind = reader->name;
      active = active || reader->op->type() != "dropout";
      mlp.activated = reader->outputs.front();
    }
    reader = sole_reader(graph, reader->outputs.front());
  }
  if (active && reader && reader->op->type() == "linear") mlp.second = reader;
  return mlp;
}

void add_edge(const Graph& graph, Scored& s, Axis axis, Edge edge, const std::string& reader) {
  if (std::ranges::find(s.axes, axis) == s.axes.end()) s.axes.push_back(axis);
  const Node* gate = maker_of(graph, edge);
  if (gate && is_gate(*gate)) {
    s.gates.push_back(gate->name);
    if (s.coefficients.empty()) {
      const Shape& shape = graph[edge].shape;
      const Dim& channels = shape[channel_dim(shape)];
      const Indices index = index_of(*gate, graph.size(channels)), positions = axis_positions(graph, channels, axis);
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

Edits ScoreSearch::splits(const Graph&) const {
  return {};
}

bool ScoreSearch::fits(const Graph& graph) const {
  return !scored(graph).empty();
}

Edits ScoreSearch::begin(const Graph& graph) const {
  check(graph);
  if (!has_gates()) return {};
  Edits edits = splits(graph);
  Graph viewed = graph;
  apply(viewed, {}, edits);
  for (const Scored& s : scored(viewed)) {
    if (!s.gates.empty()) continue;
    InsertGates insert{.coefficients = s.name + suffix,
                       .operation = Value::map({{"use", "coefficient"}, {"role", "architecture"}}),
                       .count = viewed[s.axes.front()].size,
                       .places = {}};
    for (size_t i = 0; i < s.edges.size(); ++i) {
      const Shape& shape = viewed[s.edges[i]].shape;
      const Dim& channels = shape[channel_dim(shape)];
      const auto axis = std::ranges::find_if(s.axes, [&](Axis a) { return channels.reads(a); });
      insert.places.push_back({.gate = viewed[s.edges[i]].name + suffix,
                               .edge = viewed[s.edges[i]].name,
                               .readers = {s.readers[i]},
                               .index = axis_positions(viewed, channels, *axis)});
      // The one gate of an MLP would have the name of its coefficients.
      if (insert.places.back().gate == insert.coefficients) insert.coefficients += "_of_units";
    }
    if (find(viewed, insert.coefficients) || find(viewed, insert.places.front().gate)) {
      throw Error("'" + s.name +
                  "' has scores of another controller already; a later stage needs the controller that put them in "
                  "(`sidt` or `vtp`), which removes them or makes them part of the layers");
    }
    edits.push_back({std::move(insert)});
  }
  return edits;
}

void ScoreSearch::check(const Graph& graph) const {
  if (!fits(graph))
    throw Error(
        "the network has no attention and no MLP of a transformer; `describe backbone` lists vit_tiny and swin_t, "
        "which have");
  const std::vector<Scored> all = scored(graph);
  if (!has_gates() && std::ranges::any_of(all, [](const Scored& s) { return !s.gates.empty(); }))
    throw Error(
        "the network has scores of an earlier stage, which would stay in it without a use; `rank: scores` removes by "
        "them");
}

std::vector<std::string> ScoreSearch::idle(const Graph& graph, int64_t) const {
  if (rules_.ratio == 0) {
    if (rules_.scope == "global") return {};
    return {"'scope' is without effect where 'ratio' is 0"};
  }
  const std::vector<Scored> all = scored(graph);
  const auto keeps_all = [&](const Scored& s) { return graph[s.axes.front()].size <= rules_.keep; };
  if (all.empty() || !std::ranges::all_of(all, keeps_all)) return {};
  return {"'keep' is as large as every layer: nothing goes"};
}

Edits ScoreSearch::expected_edits(const Graph& graph) const {
  if (rules_.scope != "layer" || rules_.ratio == 0) return {};
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

Foreseen ScoreSearch::foresees(const Graph& graph, const Weights*) const {
  if (rules_.scope == "layer" || rules_.ratio == 0) return {};
  Edits folds;
  add_folds(scored(graph), folds);
  return {std::move(folds), "how many dimensions of each layer go is found in the run, of the scores that it trains"};
}

void ScoreSearch::stage_begin(Run& run) {
  check(run.graph());
  record(run);
}
void ScoreSearch::resume(Run&, const Value&) {}
void ScoreSearch::epoch_end(Run& run) {
  record(run);
}

void ScoreSearch::stage_end(Run& run) {
  const c10::NoGradGuard no_grad;
  record(run);
  if (rules_.ratio == 0) return;
  prune(run);
  Edits folds;
  add_folds(scored(run.graph()), folds);
  if (!folds.empty()) run.edit(folds);
}

// How many of so many go, where each layer keeps the same share, rounded.
int64_t ScoreSearch::gone_of(int64_t size) const {
  const int64_t gone = size - std::llround((1 - rules_.ratio) * static_cast<double>(size));
  return std::clamp<int64_t>(gone, 0, std::max<int64_t>(0, size - rules_.keep));
}

// How many of all scores go, rounded down.
int64_t ScoreSearch::to_go_of(int64_t count) const {
  return static_cast<int64_t>(rules_.ratio * static_cast<double>(count) + 1e-9);
}

void ScoreSearch::add_folds(const std::vector<Scored>& all, Edits& edits) const {
  if (!rules_.fold || !has_gates()) return;
  for (const Scored& s : all) {
    for (const std::string& gate : s.gates) edits.push_back({FoldGate{gate}});
  }
}

std::vector<double> ScoreSearch::ranks(Run& run, const Scored& s) const {
  const Graph& graph = run.graph();
  const Node* gate = s.gates.empty() ? nullptr : find(graph, s.gates.front());
  const Node* maker = gate ? maker_of(graph, gate->inputs[1]) : nullptr;
  if (!maker || maker->parameters.size() != 1)
    throw Error("the scores of '" + s.name + "' are no longer free coefficients");
  const at::Tensor values =
      run.weights()[maker->parameters.front()].detach().to(at::kCPU, at::kDouble).flatten().contiguous();
  std::vector<double> result;
  for (const int64_t at : s.coefficients) result.push_back(std::abs(values.const_data_ptr<double>()[at]));
  return result;
}

// The positions of each layer that go, ascending.
std::vector<Indices> ScoreSearch::choose(const std::vector<std::vector<double>>& ranks) const {
  struct Position {
    double rank;
    size_t layer;
    int64_t at;
  };
  std::vector<Position> order;
  std::vector<int64_t> may_go;  // of each layer
  for (size_t l = 0; l < ranks.size(); ++l) {
    const auto size = std::ssize(ranks[l]);
    for (int64_t i = 0; i < size; ++i) order.push_back({ranks[l][static_cast<size_t>(i)], l, i});
    may_go.push_back(rules_.scope == "layer" ? gone_of(size) : size - rules_.keep);
  }
  std::ranges::stable_sort(order, {}, &Position::rank);
  int64_t to_go =
      rules_.scope == "layer" ? std::accumulate(may_go.begin(), may_go.end(), int64_t{0}) : to_go_of(std::ssize(order));
  std::vector<Indices> gone(ranks.size());
  for (const Position& p : order) {
    if (to_go == 0) break;
    if (may_go[p.layer] <= 0) continue;
    --may_go[p.layer];
    --to_go;
    gone[p.layer].push_back(p.at);
  }
  for (Indices& g : gone) std::ranges::sort(g);
  return gone;
}

void ScoreSearch::prune(Run& run) {
  const Graph& graph = run.graph();
  const std::vector<Scored> all = scored(graph);
  std::vector<std::vector<double>> numbers;
  for (const Scored& s : all) numbers.push_back(ranks(run, s));
  const std::vector<Indices> gone = choose(numbers);
  if (rules_.scope == "global") {
    int64_t count = 0, went = 0;
    for (const std::vector<double>& n : numbers) count += std::ssize(n);
    for (const Indices& g : gone) went += std::ssize(g);
    if (const int64_t wanted = to_go_of(count); went < wanted) {
      log::warning(std::to_string(went) + " of " + std::to_string(count) + " scores go and not " +
                   std::to_string(wanted) + ", since every layer keeps " + std::to_string(rules_.keep) + " ('keep')");
    }
  }
  Edits edits;
  Value kept = Value::map();
  for (size_t l = 0; l < all.size(); ++l) {
    const int64_t size = std::ssize(numbers[l]);
    kept[all[l].name] = 1 - static_cast<double>(gone[l].size()) / static_cast<double>(size);
    if (gone[l].empty()) continue;
    for (const Axis a : all[l].axes) edits.push_back(shrink(graph, a, complement(gone[l], size)));
  }
  if (!edits.empty()) run.edit(edits);
  for (size_t l = 0; l < all.size(); ++l) {
    if (!gone[l].empty()) removed(run, all[l], std::ssize(numbers[l]));
  }
  run.publish("kept", {std::move(kept)});
}

void ScoreSearch::record(Run& run) const {
  if (!has_gates()) return;
  const c10::NoGradGuard no_grad;
  int64_t small = 0, count = 0;
  for (const Scored& s : scored(run.graph())) {
    if (s.gates.empty()) continue;
    const std::vector<double> r = ranks(run, s);
    count += std::ssize(r);
    small += std::ranges::count_if(r, [](double v) { return v < 1e-2; });
  }
  run.metric("scores", static_cast<double>(count));
  run.metric("small_scores", static_cast<double>(small));
}

}  // namespace espalier
