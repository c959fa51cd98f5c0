#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "espalier/api.h"
#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// Changes of structure, as values that can be written down and replayed. Nodes, axes and edges go by name; an edge has
// the name of the node that makes it.

// Keeps the listed positions of an axis (ascending), drops the rest.
struct Shrink {
  std::string axis;
  Indices keep;
};

// Adds positions at the end of an axis. Everything that makes them is filled by its initializer; what reads them
// (the columns of the layers that follow) too, or with zeros:
//   random      by the initializer: the network's function changes
//   preserving  the function stays: what reads them is zero
//   orthogonal  as preserving, and each new filter is orthogonal to the old ones and the new ones before it, as long as
//               there are directions left
struct Grow {
  std::string axis;
  int64_t count = 1;
  std::string init = "random";
  uint64_t seed = 0;  // of the new values
};

// One consumer goes its own way: it reads its input through a view with an axis of its own, called VIEW, which can
// shrink without the axis that the others share.
struct SplitOff {
  std::string node;
  int64_t input = 0;
  std::string view;  // the new node and axis; empty: "NODE.view"
};

// A node loses one of its inputs: a concatenation its segment (the axis stays), a sum or a mixture its term. What
// nothing reads any more goes.
struct Disconnect {
  std::string node;
  int64_t input = 0;
};

// A block whose input and output have one shape goes: what read its output reads its input. A block is the nodes whose
// names begin with its name and a dot.
struct DropBlock {
  std::string block;
};

// A new block, with the operations and widths of the block `like`, behind the block or node `after`. Axes that only
// `like` has are copied. init: random, or preserving (the last batch norm or layer of each branch begins with zero, so
// that a residual block gives back what it is given; others are refused).
struct InsertBlock {
  std::string block;
  std::string like;
  std::string after;
  std::string init = "random";
  uint64_t seed = 0;
};

// A mixture (weighted_sum) becomes one of its terms, without a coefficient.
struct Choose {
  std::string node;
  int64_t input = 0;
};

// Multiplies an edge by a coefficient for each position of an axis, all `initial` at first. Inserted behind the node
// that makes the edge, before all that read it, or the `readers` alone.
struct InsertGate {
  std::string gate;  // the new node; its coefficients are the parameter "GATE.coefficient.value"
  std::string edge;
  std::string axis;  // empty: all positions of the edge's channels
  double initial = 1;
  std::string role = "weight";  // or architecture
  std::vector<std::string> readers{};
};

// Multiplies a gate's coefficients into the nearest linear operation or batch norm: into the one before, where the gate
// alone reads that, else into all behind; never across a nonlinearity. A mixture becomes a sum.
struct FoldGate {
  std::string gate;
};

// Takes a gate out, whatever its coefficients are.
struct RemoveGate {
  std::string gate;
};

// Filters of a convolution get smaller kernels, of these sizes (0 to what they have), each from the middle of the whole
// (paper 001: half-rings go by turns, first on the top left).
struct CropKernels {
  std::string node;
  Indices sizes;
};

using Change = std::variant<Shrink, Grow, SplitOff, Disconnect, DropBlock, InsertBlock, Choose, InsertGate, FoldGate,
                            RemoveGate, CropKernels>;

struct Edit {
  Change what;

  ESPALIER_API std::string str() const;  // "shrink conv1 to 13"
  ESPALIER_API Value to_value() const;
  ESPALIER_API static Edit from_value(const Value& value);
};
using Edits = std::vector<Edit>;

ESPALIER_API Edit shrink(const Graph& graph, Axis axis, Indices keep);
ESPALIER_API Edit grow(const Graph& graph, Axis axis, int64_t count, std::string init, RandomKey key);

// Carries out the edits, one after the other, on the graph and on every Weights with gradients and states, or nothing
// of them: throws EditError with the axis or node and the reason. Neighbouring changes of different widths are one
// pass over the memory, and their positions are those of the graph before all of them (where one entails another, a
// view loses what either takes).
ESPALIER_API void apply(Graph& graph, const std::vector<Weights*>& weights, const Edits& edits);
ESPALIER_API void apply(Graph& graph, const std::vector<Weights*>& weights, const Edit& edit);

// Sets the slices of everything that the given positions of an axis are made of (filters, biases, batch norm) to what
// gives zero. Where a view brings values of another axis there, the columns that read them become zero too.
ESPALIER_API void zero(const Graph& graph, Weights& weights, Axis axis, const Indices& positions);

// Whether removing zeroed structure of this axis is exact: the name of the first node that makes something else of the
// zeros which a layer then reads (a sigmoid before a layer, but not one whose output multiplies the zeros), or that
// depends on the number of positions (softmax, layer norm); "": it is exact.
ESPALIER_API std::string inexact_at(const Graph& graph, Axis axis);

// The positions that hold true.
ESPALIER_API Indices indices_of(const std::vector<bool>& mask);
// The positions of 0..size-1 not in `positions` (ascending).
ESPALIER_API Indices complement(const Indices& positions, int64_t size);

}  // namespace espalier
