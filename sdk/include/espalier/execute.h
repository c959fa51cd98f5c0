#pragma once

#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/batch.h"
#include "espalier/graph.h"
#include "espalier/operation.h"
#include "espalier/weights.h"

namespace espalier {

// Computes the named outputs of a graph from its named inputs, and runs only the nodes that they need.
//
//   const auto results = run(graph, weights, {{"input", x}}, {"logits"}, {.training = true});
//
// Inputs have the batch first, [batch] + the sizes of their edge; those that no wanted output needs may be left out.
// Returns the outputs in the order of `outputs`, with the batch first: "logits" is [batch, outputs] or [batch, nodes,
// outputs]. An output that does not depend on an input, such as coefficients, has a batch of 1.
// The dtype is that of the weights, or bfloat16 for what autocast computes so. Autograd records the pass unless
// gradients are switched off (c10::NoGradGuard). Throws Error if an input is missing or does not fit the graph, or if
// an output is not known.
ESPALIER_API std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                                         const std::vector<std::string_view>& outputs, const Pass& pass = {});

// Does the same, and tells `observe` what each node computes, in the order of the graph. Every node is computed by
// itself then, so that all edges are seen.
ESPALIER_API std::vector<at::Tensor> run(const Graph& graph, const Weights& weights, const NamedTensors& inputs,
                                         const std::vector<std::string_view>& outputs, const Pass& pass,
                                         const Observer& observe);

}  // namespace espalier
