#pragma once

#include <cstdint>
#include <vector>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// An operation that is a sum of components, each with a coefficient. Its last input holds the coefficients.
class ESPALIER_API Mixture {
 public:
  virtual ~Mixture();
  // Returns, for each input but the last, the position of its coefficient in the last input, counted row by row.
  virtual Indices components(const Graph& graph, const Node& node) const = 0;
};

// An operation without inputs that holds a value of its own, in its one parameter or buffer.
class ESPALIER_API HoldsValue {
 public:
  virtual ~HoldsValue();
  // Returns what the parameter must hold so that the operation gives this value (without the batch).
  virtual at::Tensor held(const at::Tensor& value) const = 0;
};

// A matrix of which it is known, without looking at values, that most entries are zero.
class ESPALIER_API SparseMatrix {
 public:
  virtual ~SparseMatrix();
  // Returns how many entries may be another number than zero. Multiplying by the matrix takes as many
  // multiply-accumulates for each column of the other factor.
  virtual int64_t entries() const = 0;
};

// One component of a mixture.
struct MixtureTerm {
  int32_t node = -1;      // the mixture
  size_t input = 0;       // which of its inputs the component is
  int32_t producer = -1;  // the node that computes the component; -1: the graph's input
  Edge coefficients;      // that the mixture reads, [rows, columns] or [columns]; several mixtures may share them
  int64_t row = 0;        // the component's coefficient among them
  int64_t column = 0;     // its place in that row
};

// Returns all components of all mixtures, in topological order: what penalties on latency or multiply-accumulates sum
// over, and what derivations compare.
ESPALIER_API std::vector<MixtureTerm> mixture_terms(const Graph& graph);

// Returns the values that coefficients have now, without the batch, in float64 on the CPU. Throws Error if they depend
// on the input, so that each sample has its own.
ESPALIER_API at::Tensor coefficient_values(const Graph& graph, const Weights& weights, Edge coefficients);

}  // namespace espalier
