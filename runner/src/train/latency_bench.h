#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "espalier/graph.h"
#include "espalier/latency.h"
#include "espalier/weights.h"

namespace espalier {

// How latencies are measured.
struct LatencyOptions {
  int64_t batch = 1;                  // samples of a pass
  int64_t passes = 20;                // at least so many are timed of each point, after a few that do not count
  std::string precision = "float32";  // float32, bf16 or float64
};

// Times each kind of node of a network on the device of the weights, in evaluation mode and without gradients, on
// made-up inputs, for widths from a single position up to those of the network: medians. The table's origin holds, as
// `network`, the median time of a pass of the whole network and what the table gives for it. `progress` is told how
// many of how many kinds are done; it may be null. Throws Error if the network cannot be computed with made-up inputs.
LatencyTable measure_latencies(const Graph& graph, const Weights& weights, const LatencyOptions& options,
                               const std::function<void(size_t done, size_t of)>& progress);

}  // namespace espalier
