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

}  // namespace espalier
