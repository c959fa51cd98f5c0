#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "espalier/edit.h"

namespace espalier {

// What an edit, or several changes of widths at once, will do, ready to be followed by everything that lies beside the
// graph.
struct Rewrite {
  // What may be said of the network's function.
  enum class Effect {
    removes,    // the same once what goes is zero (where the operations preserve zeros)
    preserves,  // the same
    changes,    // another
  };

  Graph graph;                        // after it
  std::vector<ParamId> origin;        // for each of its parameters the one that it was; id -1: it is new
  std::vector<Axis> axis_origin;      // likewise for its axes
  std::vector<AxisChange> changes{};  // of widths; axes of the graph before
  Effect effect = Effect::removes;

  // What of a parameter (of the graph before) and of all that lies beside it becomes zero: products of its shape.
  std::map<ParamId, at::Tensor> masks{};
  // Old positions of a parameter's (of the graph after) dimensions, where axes cannot tell: constants, equal segments.
  std::map<ParamId, std::map<size_t, Indices>> windows{};

  // How new slices are filled.
  struct Fill {
    RandomKey key;
    bool zero_columns = false;  // what reads new positions is zero
    bool orthogonal = false;
    std::vector<ParamId> zeros{};  // new parameters (of `graph`) that begin with zero
  };
  Fill fill{};

  // Sets further values, after the slices were moved: `now` gives a parameter of the graph after, undefined where
  // another Weights that shares it has done this already.
  using Now = std::function<at::Tensor(ParamId)>;
  std::function<void(const Graph& before, const Weights& old, const Now& now)> transform{};

  // For a dimension of the graph after, that was `old` before: the old position of each new one (-1: new); nullopt
  // where nothing changed. Segments are recognised by their axes, in order.
  ESPALIER_API std::optional<Indices> gather(const Graph& before, const Dim& old, const Dim& now) const;
};

// For a dimension: the old position of each new one after these changes (-1: new); nullopt where nothing changed.
// Segments that read none of the changed axes stay whole.
ESPALIER_API std::optional<Indices> gather(const Graph& before, const Dim& dim, const std::vector<AxisChange>& changes);

// The positions of a dimension (ascending) that belong to the given positions of an axis (ascending); none where the
// dimension does not read the axis. Of a concatenation these are positions of the axis's own segments alone.
ESPALIER_API Indices positions_of(const Graph& graph, const Dim& dim, Axis axis, const Indices& positions);

// For each position of a dimension the position of the axis that it belongs to, -1: to none.
ESPALIER_API Indices axis_positions(const Graph& graph, const Dim& dim, Axis axis);

// Of one edit, or of a run of width changes from `first` on; `first` goes to the next one not yet planned. Throws
// EditError.
ESPALIER_API Rewrite plan(const Graph& graph, const Edits& edits, size_t& first);
ESPALIER_API Rewrite plan(const Graph& graph, const Edit& edit);

// Carries out what is planned, on all or (where there is no memory) on nothing.
ESPALIER_API void carry_out(Graph& graph, const std::vector<Weights*>& weights, Rewrite rewrite);

}  // namespace espalier
