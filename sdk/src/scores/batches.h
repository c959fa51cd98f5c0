#pragma once

#include <functional>
#include <vector>

#include "espalier/run.h"
#include "espalier/score.h"

namespace espalier {

// Calls body(batch) for each of `count` batches of the training data. The gradients of the weights are zero before each
// call and in the end. Throws Error if there are no data.
void for_batches(const ScoreInput& in, int64_t count, const std::function<void(const Batch&)>& body);

// Returns samples begin to end of a batch. Throws Error if its samples have different numbers of rows.
Batch samples_of(const Batch& batch, int64_t begin, int64_t end);

// What flows through some edges in one pass, connected by autograd.
using Features = std::vector<std::pair<Edge, at::Tensor>>;

// Returns the loss of a batch and leaves in `features` what the edges hold. gradients: whether their gradients are kept
// when the loss is differentiated.
at::Tensor loss_with_features(const ScoreInput& in, const Batch& batch, const std::vector<Edge>& edges, bool gradients,
                              Features& features);

// Returns what an edge holds.
const at::Tensor& feature_at(const Features& features, Edge edge);

// Returns the feature map of each position of an axis as rows: float64 on the CPU, [batch, positions, elements].
at::Tensor feature_rows(const Graph& graph, Edge edge, const at::Tensor& value, Axis axis);

}  // namespace espalier
