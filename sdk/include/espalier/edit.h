#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "espalier/api.h"
#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// Keeps the listed positions of an axis (ascending), drops the rest.
struct Shrink {
  std::string axis;
  Indices keep;
};

// A change of structure, as a value that can be written down and replayed.
struct Edit {
  std::variant<Shrink> what;

  ESPALIER_API std::string str() const;  // "shrink conv1 from 20 to 13" without the old size: "shrink conv1 to 13"
  ESPALIER_API Value to_value() const;
  ESPALIER_API static Edit from_value(const Value& value);
};

ESPALIER_API Edit shrink(const Graph& graph, Axis axis, Indices keep);

// What an edit does, ready to be followed by everything: the new graph, where its parameters come from, and how its
// axes changed.
struct Rewrite {
  Graph graph;
  std::vector<ParamId> origin;  // for each parameter of the new graph the one that it was (id -1: it is new)
  std::vector<AxisChange> changes;

  // For a dimension of the graph before: the old position of each new one, nullopt where it is unchanged.
  ESPALIER_API std::optional<Indices> gather(const Graph& before, const Dim& dim) const;
};

// Throws EditError with the axis and the reason where it is impossible.
ESPALIER_API Rewrite plan(const Graph& graph, const Edit& edit);

// Carries out the edit on the graph and on every Weights with gradients and states, or on nothing: throws EditError.
ESPALIER_API void apply(Graph& graph, const std::vector<Weights*>& weights, const Edit& edit);

// Sets the slices of everything that the given positions of an axis are made of (filters, biases, batch norm) to what
// gives zero.
ESPALIER_API void zero(const Graph& graph, Weights& weights, Axis axis, const Indices& positions);

// Whether removing zeroed structure of this axis is exact: the name of the first node where it is not, or "".
ESPALIER_API std::string inexact_at(const Graph& graph, Axis axis);

// The positions that hold true.
ESPALIER_API Indices indices_of(const std::vector<bool>& mask);
// The positions of 0..size-1 not in `positions` (ascending).
ESPALIER_API Indices complement(const Indices& positions, int64_t size);

}  // namespace espalier
