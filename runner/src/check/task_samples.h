#pragma once

#include <string>
#include <vector>

#include "espalier/batch.h"
#include "espalier/builder.h"

namespace espalier {

// A task with outputs and targets of twelve samples, for losses and metrics.
struct TaskSample {
  std::string name;  // "5 classes"
  TargetSpec target;
  at::Tensor logits;  // float64 [12, outputs]
  at::Tensor truth;   // as Batch::targets says
};
const std::vector<TaskSample>& task_samples();

// Samples [begin, end) as a batch. The inputs say nothing.
Batch batch_of(const TaskSample& sample, int64_t begin, int64_t end);

}  // namespace espalier
