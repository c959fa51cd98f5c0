#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// Times the forward pass of a network in evaluation mode, without gradients, on made-up inputs: for each size of a
// batch `passes` passes after a tenth as many that do not count. Gives [{batch, ms: the median of a pass,
// samples_per_second}]. precision: float32 or bf16.
Value bench_inference(const Graph& graph, const Weights& weights, const std::vector<int64_t>& batches, int64_t passes,
                      const std::string& precision);

}  // namespace espalier
