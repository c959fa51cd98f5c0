#include "sparse_adjacency.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <espalier/builder.h>
#include <espalier/execute.h>
#include <espalier/operation.h>

#include "competition.h"
#include "competition_nodes.h"

namespace espalier {

namespace {

constexpr const char* adjacency_name = "adjacency.competition";

// The first graph convolution, whose adjacency all of them share; null: there is none.
const Node* reader_of_adjacency(const Graph& graph) {
  for (const Node& n : graph.nodes()) {
    if (n.op->type() == "graph_conv") return &n;
  }
  return nullptr;
}

// What the graph convolutions would read without the competition.
at::Tensor given_adjacency(Run& run, int64_t size) {
  const Batch batch = run.draw("train");
  for (const auto& [name, tensor] : batch.inputs) {
    if (name == "adjacency") return tensor[0];
  }
  // Of an image: the grid of its pixels, which has left the network with its last reader.
  const std::vector<int64_t> image = run.graph().sizes(run.graph()[run.graph().inputs().front().edge].shape);
  if (image.size() == 3 && image[1] * image[2] == size) {
    GraphBuilder b({.channels = image[0], .height = image[1], .width = image[2]});
    const Graph grid = b.output(b.grid_adjacency(b.input()));
    const Weights none(grid, run.weights().dtype(), run.weights().device());
    return espalier::run(grid, none, batch.inputs, {"logits"})[0][0];
  }
  throw Error("the data give no input 'adjacency', and the network has no grid of pixels");
}

// The entries of the competition become a constant matrix.
Edit learned(const Graph& graph, const Node& competition, int64_t size, const Indices& rows, const Indices& columns,
             bool keep_values) {
  return {Substitute{
      .edge = graph[competition.outputs.front()].name,
      .node = "adjacency.learned",
      .operation = Value::map({{"use", "sparse_constant"}, {"size", size}, {"rows", rows}, {"columns", columns}}),
      .keep_values = keep_values}};
}

void say_empty(Run& run, const at::Tensor& a) {
  const int64_t rows = a.ne(0).any(1).logical_not().sum().item<int64_t>();
  const int64_t columns = a.ne(0).any(0).logical_not().sum().item<int64_t>();
  if (rows + columns == 0) return;
  run.note(std::to_string(rows) + " rows and " + std::to_string(columns) +
           " columns of the adjacency have no entry left: those nodes see none, or are seen by none, and their sums "
           "are zero instead of one");
}

}  // namespace

Edits SparseAdjacency::begin(const Graph& graph) const {
  Edits edits;
  const Node* reader = reader_of_adjacency(graph);
  if (!reader || find_competition(graph, adjacency_name)) return edits;
  const Edge edge = reader->inputs[1];
  std::vector<std::string> readers;
  for (const Node& n : graph.nodes()) {
    if (n.op->type() == "graph_conv" && n.inputs[1] == edge) readers.push_back(n.name);
  }
  const AdjacencyGroupOptions& a = o_.adjacency;
  Value operation = Value::map({{"use", AdjacencyCompetition::name},
                                {"size", graph.sizes(graph[edge].shape).front()},
                                {"form", o_.coefficients == "competition" ? "sparse" : o_.coefficients},
                                {"gamma", o_.gamma},
                                {"revive", o_.revive},
                                {"slope", o_.slope},
                                {"thresholds", a.thresholds},
                                {"normalize", a.normalize},
                                {"iterations", a.iterations},
                                {"symmetric", a.symmetric}});
  edits.push_back({Substitute{
      .edge = graph[edge].name, .node = adjacency_name, .operation = std::move(operation), .readers = readers}});
  return edits;
}

void SparseAdjacency::check(const Graph& graph) const {
  if (!reader_of_adjacency(graph)) throw Error("`groups: adjacency` is for networks with graph convolutions");
  if (o_.keep.size() > 1) throw Error("'keep' must be one number of entries for `groups: adjacency`");
}

Edits SparseAdjacency::edits_at_end(const Graph& graph) const {
  Edits edits;
  const Node* n = find_competition(graph, adjacency_name);
  if (!n || !o_.fold) return edits;
  const int64_t size = graph.sizes(graph[n->outputs.front()].shape).front();
  Indices rows, columns;
  for (int64_t i = 0; i < (o_.keep.empty() ? size : std::min(o_.keep.front(), size * size)); ++i) {
    rows.push_back(i / size);
    columns.push_back(i % size);
  }
  edits.push_back(learned(graph, *n, size, rows, columns, /*keep_values=*/false));
  return edits;
}

void SparseAdjacency::stage_begin(Run& run) const {
  const c10::NoGradGuard no_grad;
  const Node* n = find_competition(run.graph(), adjacency_name);
  if (!n) return;
  at::Tensor mask = run.weights()[n->parameters[AdjacencyCompetition::mask_at]];
  // A stage before has chosen the candidates already.
  if (mask.eq(0).any().item<bool>()) return;
  const at::Tensor given = given_adjacency(run, mask.size(0));
  if (o_.adjacency.candidates == "given") {
    mask.copy_(given.ne(0));
  }
  mask.fill_diagonal_(o_.adjacency.self_loops ? 1 : 0);
  if (o_.coefficients != "free") return;
  // What the data give is where a free adjacency begins.
  at::Tensor alpha = run.weights()[n->parameters.front()].detach();
  alpha.copy_(given);
  run.weights().bank(Role::architecture).values.touch();
}

void SparseAdjacency::stage_end(Run& run) const {
  const Node* n = find_competition(run.graph(), adjacency_name);
  if (!n) return;
  at::Tensor a = operation_of<AdjacencyCompetition>(*n)->values(*n, run.weights());
  say_empty(run, a);
  at::Tensor keep = a.ne(0);
  if (!o_.keep.empty() && o_.keep.front() < keep.sum().item<int64_t>()) {
    const at::Tensor flat = a.abs().flatten();
    keep = at::zeros_like(flat).index_fill(0, std::get<1>(at::topk(flat, o_.keep.front())), 1).view_as(a).ne(0);
    at::Tensor mask = run.weights()[n->parameters[AdjacencyCompetition::mask_at]];
    mask.copy_(keep);
    // Beside fewer candidates the others have other shares.
    a = operation_of<AdjacencyCompetition>(*n)->values(*n, run.weights());
    keep = a.ne(0);
  }
  const auto left = keep.sum().item<int64_t>();
  run.metric("components", static_cast<double>(left));
  const double candidates = run.weights()[n->parameters[AdjacencyCompetition::mask_at]].sum().item<double>();
  run.metric("zeros", o_.fold ? 0 : candidates - static_cast<double>(left));
  Value count = Value::list();
  count.push_back(left);
  run.publish("left", {std::move(count)});
  run.publish("components", {Value::map({{"adjacency", left}}), {{"adjacency", a.to(at::kCPU)}}});
  if (!o_.fold) return;
  const at::Tensor places = keep.nonzero().to(at::kCPU).contiguous();
  Indices rows, columns;
  for (int64_t i = 0; i < places.size(0); ++i) {
    rows.push_back(places.const_data_ptr<int64_t>()[2 * i]);
    columns.push_back(places.const_data_ptr<int64_t>()[2 * i + 1]);
  }
  if (rows.empty()) throw Error("no entry of the adjacency is left: the penalty is too strong");
  run.edit(learned(run.graph(), *n, a.size(0), rows, columns, /*keep_values=*/true));
}

}  // namespace espalier
