#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/operation.h"
#include "espalier/weights.h"

namespace espalier {

// The forward pass: computes the named outputs ("logits", "loss") from the named inputs ("input", "target") and runs
// only the nodes that they need. Returns them in order. Throws Error for an input that is missing or does not fit the
// graph.
ESPALIER_API std::vector<at::Tensor> run(const Graph& graph, const Weights& weights,
                                         const std::vector<std::pair<std::string_view, at::Tensor>>& inputs,
                                         const std::vector<std::string_view>& outputs, const Pass& pass = {});

}  // namespace espalier
