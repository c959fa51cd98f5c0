#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/random.h"
#include "espalier/weights.h"

namespace espalier {

class Run;

// The score of each position of a width: filters, units, heads, head dimensions; the smaller, the sooner it goes.
struct AxisScores {
  Axis axis;                   // the width
  std::vector<double> scores;  // [size of the axis]
};

// What scores are computed from.
struct ScoreInput {
  const Graph& graph;  // the network
  Weights& weights;    // its values; a score may overwrite the gradients, and must leave everything else as it is
  RandomKey key{};     // the key of all draws
  Run* run = nullptr;  // gives batches (Run::draw) and their loss (Run::loss); null while a recipe is planned
};

// Gives a value to each position of widths, by which controllers such as `prune` choose what goes: the smallest first.
// The mean of the absolute weights of each filter, with the includes left out (`espalier new score NAME` writes a whole
// plugin):
//
//   class MeanWeight final : public Score {
//    public:
//     using Options = NoOptions;
//     explicit MeanWeight(Options) {}
//     std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
//       std::vector<AxisScores> all;
//       for (const Axis axis : axes) {
//         at::Tensor sum = at::zeros({in.graph[axis].size}, at::kDouble);
//         for (const ParamId p : in.graph.producers(axis))
//           sum += rows_of(in.graph, in.weights[p], in.graph[p].shape, axis, makes(in.graph, p, axis)).abs().mean(1);
//         all.push_back(scores_of(axis, sum));
//       }
//       return all;
//     }
//   };
class ESPALIER_API Score : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "score";
  // Returns how many batches of training data it looks at; 0 if the values of the network tell all.
  virtual int64_t batches() const { return 0; }
  // Returns why it cannot judge the positions of a width ("no batch norm scales it"), or "" if it can. The axis is one
  // that edits may change and that a layer's weights make, or one of view_axes() if it judges these.
  virtual std::string why_not(const Graph& /*graph*/, Axis /*axis*/) const { return ""; }
  // Returns whether it can judge the widths of views, too, which the weights of no layer make (view_axes()). why_not()
  // and scores() are then called for them as for other widths.
  virtual bool judges_views() const { return false; }
  // Returns the scores of the widths, in the order of `axes`, each with as many finite numbers as the axis has
  // positions. why_not() returned "" for all of them. The same input gives the same scores. Throws Error if batches are
  // needed and `in.run` is null.
  virtual std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const = 0;
};

// Returns the widths that can be ranked and pruned: those that edits may change, that have more than one position, and
// that the weights of a layer make, as far as the selected parameters make them. An empty selector selects all. Of a
// layer with groups or heads there are two, the groups and the width of one.
ESPALIER_API std::vector<Axis> prunable_axes(const Graph& graph, const Selector& on);

// A width that an index view makes, the operation `select` that `drops`: the channels that one reader has of another
// edge. It can shrink while what it reads stays, as the inputs of a residual block do in network slimming (Liu et al.
// 2017).
struct ViewInfo {
  int32_t node = -1;  // the view, by its place in Graph::nodes()
  Axis axis;          // its width
  Axis source;        // the width that it reads; -1 if that is made up of several
  Indices index;      // of each position, the channel of its input
};

// Returns the node that alone reads an edge, if it reads it once and the edge is no output; null otherwise. It holds
// until the next edit.
ESPALIER_API const Node* sole_reader(const Graph& graph, Edge edge);

// Returns the views of a graph, in topological order.
ESPALIER_API std::vector<ViewInfo> views(const Graph& graph);

// Returns the widths of views that can be ranked and pruned by themselves, in order: those with more than one position,
// as far as a selected parameter reads them (the columns of the layer behind the view) or makes them (a gate). An empty
// selector selects all.
ESPALIER_API std::vector<Axis> view_axes(const Graph& graph, const Selector& on);

// Returns a sentence for each width that makes outputs of layers and cannot be pruned, with the name of the width, its
// size and the reason: "'fc' (10): its size is given from outside".
ESPALIER_API std::vector<std::string> unprunable_axes(const Graph& graph);

// Returns, for each dimension of a parameter, whether the axis makes it: true for filters, biases, scales; false for
// the columns that read the axis and for dimensions without it.
ESPALIER_API std::vector<bool> makes(const Graph& graph, ParamId parameter, Axis axis);
// Returns, for each dimension of a parameter, whether it is a column that reads the axis.
ESPALIER_API std::vector<bool> reads(const Graph& graph, ParamId parameter, Axis axis);

// Returns a matrix with a row for each position of an axis, of what a tensor of this shape holds there: float64
// [positions, elements] on the CPU, the elements in the order of the tensor. `dimensions` says which dimensions count,
// as makes() and reads() do; exactly one should. In a concatenation only the axis's own segments count.
ESPALIER_API at::Tensor rows_of(const Graph& graph, const at::Tensor& tensor, const Shape& shape, Axis axis,
                                const std::vector<bool>& dimensions);

// Returns the scores of an axis from a tensor of one dimension.
ESPALIER_API AxisScores scores_of(Axis axis, const at::Tensor& values);

// Returns the edges that hold the feature maps of a width: the output of each layer that makes it, followed through
// batch norm, gates and activation functions as long as nothing else reads what is between. `sums`: through sums, too,
// so that of a residual network they are what the blocks hand on. Each edge stands once.
ESPALIER_API std::vector<Edge> feature_edges(const Graph& graph, Axis axis, bool sums = false);

}  // namespace espalier
