#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/mixture.h"
#include "espalier/operation.h"

namespace espalier {

// Whether coefficients for `from` can be laid out along `to`: the same, or all of its axes are factors of to's one
// segment, in order.
bool spreads(const Graph& graph, const Dim& from, const Dim& to);

// Coefficients [batch, size of `from`] along `to`, [batch, size of `to`]: repeated for the factors that `from` does not
// have.
at::Tensor spread(const Graph& graph, const at::Tensor& coefficients, const Dim& from, const Dim& to);

// A gate of a whole dimension, as other operations that take it into their own pass see it.
class ChannelGate {
 public:
  virtual ~ChannelGate() = default;
  // Returns the coefficients [batch, n] along the dimension that they multiply, [batch, size of the dimension].
  virtual at::Tensor along_dimension(const Graph& graph, const Node& gate, const at::Tensor& coefficients) const = 0;
  // Returns the dimension, counted without the batch.
  virtual size_t dimension() const = 0;
  // Returns the position of the coefficient of each position along the dimension; empty if each has its own.
  virtual const std::vector<int64_t>& index() const = 0;
};

}  // namespace espalier
