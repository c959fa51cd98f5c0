#pragma once

#include <cstdint>
#include <string>

#include "data/data_pipeline.h"
#include "distributed/processes.h"
#include "espalier/graph.h"
#include "espalier/loss.h"
#include "espalier/run.h"
#include "espalier/weights.h"
#include "train/metrics.h"

namespace espalier {

struct EvaluationOptions {
  std::string precision;       // float32, bf16, float64
  int64_t batch = 1000;        // samples at a time
  bool interruptible = false;  // throws Interrupted once a signal asks to stop
};

// The outputs that a loss and the metrics look at.
std::vector<std::string_view> outputs_of(const std::vector<std::string>& names);

// Loss and metrics of a network on all of a part of the data, in evaluation mode. Several processes take its batches in
// turns; all get the same result.
Evaluation evaluate(const Graph& graph, const Weights& weights, const DataPipeline& part, const Made<Loss>& loss,
                    const Metrics& metrics, const EvaluationOptions& options, const Processes& processes);

}  // namespace espalier
