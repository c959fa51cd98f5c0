#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "espalier/api.h"
#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/value.h"
#include "espalier/weights.h"

namespace espalier {

// Changes of structure, as values that can be written down and replayed. Nodes, axes and edges go by name; an edge has
// the name of the node that makes it. An edit on a graph and its weights, without a run:
//
//   Graph graph = ...;
//   Weights weights(graph, at::kFloat, at::kCPU);
//   weights.initialize(graph, RandomKey(0));
//   apply(graph, {&weights}, shrink(graph, graph.axis("conv1"), {0, 2, 5}));             // keeps three filters
//   apply(graph, {&weights}, grow(graph, graph.axis("conv1"), 4, "preserving", RandomKey(1)));  // adds four
//   apply(graph, {&weights}, Edit{DropBlock{.block = "layer1.1"}});
//
// A controller does the same through Run::edit, which also verifies each edit and writes it to the history.

// Keeps the listed positions of an axis and drops the others.
struct Shrink {
  std::string axis;  // the name of the axis
  Indices keep;      // the positions that stay, ascending, at least one
};

// Adds positions at the end of an axis. Everything that makes them is filled by its initializer. What reads them (the
// columns of the layers that follow) is filled like this:
//   random      by the initializer, so the function of the network changes
//   preserving  with zeros, so the function stays
//   orthogonal  with zeros, and each new filter is orthogonal to the old ones and to the new ones before it, as long as
//               there are directions left
struct Grow {
  std::string axis;             // the name of the axis
  int64_t count = 1;            // how many positions are added, at least 1
  std::string init = "random";  // random, preserving or orthogonal
  uint64_t seed = 0;            // seed of the new values
};

// Lets one consumer go its own way: it reads its input through a view with an axis of its own, which can shrink while
// the axis that the others share stays.
struct SplitOff {
  std::string node;   // the consumer
  int64_t input = 0;  // which of its inputs, from 0
  std::string view;   // the name of the new node and axis; empty: "NODE.view"
};

// Takes one input away from a node: a concatenation loses a segment (its axis stays), a sum or a mixture loses a term.
// Nodes that nothing reads any more are removed.
struct Disconnect {
  std::string node;   // a concatenation, a sum or a mixture
  int64_t input = 0;  // which of its inputs, from 0
  // Whether the function must stay, since what goes is zero. A run then refuses the edit where it does not.
  bool exact = false;
};

// Removes a block whose input and output have the same shape: what read its output then reads its input. A block is all
// nodes whose names begin with its name and a dot.
struct DropBlock {
  std::string block;   // the name of the block
  bool exact = false;  // whether the function must stay, as in Disconnect
};

// Inserts a block with the operations and widths of another one. Axes that only `like` has are copied.
struct InsertBlock {
  std::string block;  // the name of the new block
  std::string like;   // the block that it is like
  std::string after;  // the block or node behind which it stands
  // random; or preserving: the last batch norm or layer of each branch begins with zero, so a residual block gives back
  // what it is given. Other blocks refuse preserving.
  std::string init = "random";
  uint64_t seed = 0;  // seed of the new values
};

// Replaces a mixture (weighted_sum) by one of its terms, without a coefficient.
struct Choose {
  std::string node;   // the mixture
  int64_t input = 0;  // the term that stays, from 0
};

// Multiplies an edge by a trainable coefficient for each position of an axis. The gate stands behind the node that
// makes the edge and before everything that reads it, or before the listed readers alone.
struct InsertGate {
  std::string gate;                    // the new node; its coefficients are the parameter "GATE.coefficient.value"
  std::string edge;                    // the edge that is multiplied
  std::string axis;                    // the axis of the coefficients; empty: all positions of the edge's channels
  double initial = 1;                  // what all coefficients are at first
  std::string role = "weight";         // weight or architecture
  std::vector<std::string> readers{};  // the nodes that read the gated edge; empty: all
};

// Multiplies several edges by coefficients that one new operation makes together: components that compete. Each gate
// stands on its edge as in InsertGate and says by an index which coefficient each channel has.
struct InsertGates {
  // Where one of the gates stands.
  struct Place {
    std::string gate;                    // the new node
    std::string edge;                    // the edge whose channels are multiplied
    std::vector<std::string> readers{};  // the nodes that read the gated edge; empty: all
    Indices index;                       // for each channel of the edge, the position of its coefficient
  };
  std::string coefficients;   // the new node that makes the coefficients; their axis has its name
  Value operation;            // its operation, {use: NAME, ...}: it needs no input and gives [count]
  int64_t count = 1;          // how many coefficients there are
  std::vector<Place> places;  // where they multiply something, at least one
};

// Lets what reads an edge read a new operation instead, which needs no input and gives the same shape: coefficients or
// constants in the place of data.
struct Substitute {
  std::string edge;                    // the edge
  std::string node;                    // the new node
  Value operation;                     // its operation, {use: NAME, ...}
  std::vector<std::string> readers{};  // the nodes that read the new edge; empty: all
  // Whether it begins with the values that the edge has, so that the function stays: of an edge that depends on no
  // sample, and an operation that holds a value (HoldsValue in mixture.h).
  bool keep_values = false;
};

// Multiplies the coefficients of a gate into the nearest linear operation or batch norm: into the one before if the
// gate alone reads it, else into all behind; never across a nonlinearity. A mixture becomes a sum.
struct FoldGate {
  std::string gate;  // the gate's node
};

// Takes a gate out, whatever its coefficients are.
struct RemoveGate {
  std::string gate;  // the gate's node
};

// Gives single filters of a convolution smaller kernels, each cut from the middle of the whole (paper 001: half-rings
// go in turn, first on the side of `corner`).
struct CropKernels {
  std::string node;  // the convolution
  Indices sizes;     // the side of each filter's kernel in pixels, from 0 to what it has
  // On which side the first row and column go: top_left or bottom_right. A convolution whose kernels were cropped
  // before keeps the side that it has.
  std::string corner = "top_left";
};

// Any of the changes above.
using Change = std::variant<Shrink, Grow, SplitOff, Disconnect, DropBlock, InsertBlock, Choose, InsertGate, InsertGates,
                            Substitute, FoldGate, RemoveGate, CropKernels>;

// One change of structure.
struct Edit {
  Change what;  // which change

  // Returns a few words for people: "shrink conv1 to 13".
  ESPALIER_API std::string str() const;
  // Returns the edit as a line of history.jsonl holds it: {"edit": "shrink", "axis": "conv1", "keep": [0, 2]}.
  ESPALIER_API Value to_value() const;
  // Reads what to_value() returned. Throws InputError if it is not an edit.
  ESPALIER_API static Edit from_value(const Value& value);
};

// Edits that are carried out one after the other, all or none.
using Edits = std::vector<Edit>;

// Returns the edit that keeps these positions of an axis.
ESPALIER_API Edit shrink(const Graph& graph, Axis axis, Indices keep);
// Returns the edit that adds positions to an axis; init as in Grow, and the key gives the seed.
ESPALIER_API Edit grow(const Graph& graph, Axis axis, int64_t count, std::string init, RandomKey key);

// Carries out the edits, one after the other, on the graph and on every Weights with gradients and states. Throws
// EditError with the axis or node and the reason if one is impossible; then nothing has changed. Neighbouring changes
// of different widths are one pass over the memory, and their positions are those of the graph before all of them (if
// one entails another, a view loses what either of them takes).
ESPALIER_API void apply(Graph& graph, const std::vector<Weights*>& weights, const Edits& edits);
// Carries out one edit.
ESPALIER_API void apply(Graph& graph, const std::vector<Weights*>& weights, const Edit& edit);

// Sets everything that the given positions (ascending) of an axis are made of, such as filters, biases and the terms of
// a batch norm, to values that give zero there. If a view brings values of another axis to these positions, the columns
// that read them become zero too.
ESPALIER_API void zero(const Graph& graph, Weights& weights, Axis axis, const Indices& positions);

// Returns "" if removing zeroed structure of this axis is exact. Otherwise returns the name of the first node that
// makes something else of the zeros which a layer then reads (a sigmoid before a layer, but not one whose output
// multiplies the zeros), or that depends on the number of positions (softmax, layer norm).
ESPALIER_API std::string inexact_at(const Graph& graph, Axis axis);

// Returns the positions that hold true, ascending.
ESPALIER_API Indices indices_of(const std::vector<bool>& mask);
// Returns the positions of 0..size-1 that are not in `positions`, which must be ascending.
ESPALIER_API Indices complement(const Indices& positions, int64_t size);

}  // namespace espalier
