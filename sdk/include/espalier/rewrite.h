#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "espalier/edit.h"

namespace espalier {

// What an edit, or several changes of widths at once, will do, ready to be carried out on the graph and on everything
// that belongs to it.
struct Rewrite {
  // What can be said of the function of the network.
  enum class Effect {
    removes,    // it stays the same once what goes is zero, if the operations keep zeros
    preserves,  // it stays the same
    changes,    // it changes
  };

  Graph graph;                        // after it
  std::vector<ParamId> origin;        // for each of its parameters the one that it was; id -1: it is new
  std::vector<Axis> axis_origin;      // likewise for its axes
  std::vector<AxisChange> changes{};  // of widths; axes of the graph before
  Effect effect = Effect::removes;    // what happens to the function

  // What of a parameter (of the graph before) and of its gradient and states becomes zero: a factor of its shape, 0
  // or 1.
  std::map<ParamId, at::Tensor> masks{};
  // The old positions of dimensions of a parameter (of the graph after), if axes cannot tell: constants, equal
  // segments.
  std::map<ParamId, std::map<size_t, Indices>> windows{};

  // How new slices are filled.
  struct Fill {
    RandomKey key;                 // the key of all draws
    bool zero_columns = false;     // what reads new positions is zero
    bool orthogonal = false;       // new filters are orthogonal to the old ones and to each other
    std::vector<ParamId> zeros{};  // new parameters (of `graph`) that begin with zero
  };
  Fill fill{};  // how new slices are filled

  // Returns a parameter of the graph after; undefined if another Weights that shares it has set it already.
  using Now = std::function<at::Tensor(ParamId)>;
  // Sets further values, after the slices were moved; null if there are none.
  std::function<void(const Graph& before, const Weights& old, const Now& now)> transform{};

  // Returns, for a dimension of the graph after that was `old` before, the old position of each new one (-1: it is
  // new), or nothing if nothing changed. Segments are recognised by their axes, in order.
  ESPALIER_API std::optional<Indices> gather(const Graph& before, const Dim& old, const Dim& now) const;
};

// Returns, for a dimension, the old position of each new one after these changes (-1: it is new), or nothing if nothing
// changed. Segments that read none of the changed axes stay whole.
ESPALIER_API std::optional<Indices> gather(const Graph& before, const Dim& dim, const std::vector<AxisChange>& changes);

// Returns the positions of a dimension, ascending, that belong to the given positions of an axis, ascending; none if
// the dimension does not read the axis. In a concatenation these are positions of the axis's own segments alone.
ESPALIER_API Indices positions_of(const Graph& graph, const Dim& dim, Axis axis, const Indices& positions);

// Returns, for each position of a dimension, the position of the axis that it belongs to, or -1 if it belongs to none.
ESPALIER_API Indices axis_positions(const Graph& graph, const Dim& dim, Axis axis);

// Plans the edit at place `first`, or, if it changes a width, all neighbouring changes of widths together. `first`
// moves to the next edit that is not yet planned. Throws EditError if an edit is impossible.
ESPALIER_API Rewrite plan(const Graph& graph, const Edits& edits, size_t& first);
// Plans one edit.
ESPALIER_API Rewrite plan(const Graph& graph, const Edit& edit);

// Carries out what is planned on the graph and on all Weights, or, if there is not enough memory, on nothing.
ESPALIER_API void carry_out(Graph& graph, const std::vector<Weights*>& weights, Rewrite rewrite);

}  // namespace espalier
