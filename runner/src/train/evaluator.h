#pragma once

#include <cstdint>
#include <string>

#include "data/data_pipeline.h"
#include "espalier/graph.h"
#include "espalier/run.h"
#include "espalier/weights.h"

namespace espalier {

struct EvaluationOptions {
  std::string precision;       // float32, bf16, float64
  int64_t batch = 1000;        // images at a time
  bool top5 = false;           // whether the second accuracy is counted
  bool interruptible = false;  // throws Interrupted once a signal asks to stop
};

// Loss and accuracy of a network on all of a part of the data, in evaluation mode.
Evaluation evaluate(const Graph& graph, const Weights& weights, const DataPipeline& part,
                    const EvaluationOptions& options);

}  // namespace espalier
