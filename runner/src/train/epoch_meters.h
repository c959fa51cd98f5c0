#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "distributed/processes.h"
#include "espalier/run.h"
#include "espalier/value.h"
#include "train/metrics.h"

namespace espalier {

// What an epoch's training steps come to: sums on the device, so that no step waits for it. Of loss_sum, loss_weight
// and leading each process has what its part of the batches gave; all else is the same in all processes.
struct EpochMeters {
  at::Tensor loss_sum;       // float64 [], of means times their weights
  at::Tensor loss_weight;    // float64 []
  at::Tensor leading;        // contributions of the leading metric; undefined: none yet
  at::Tensor gradient_norm;  // float64 [], over updates
  int64_t penalties = 0;     // evaluations that penalty_of is of: one in an ordinary step
  int64_t updates = 0;       // that gradient_norm is of
  int64_t images = 0;        // samples, of all processes
  // What each regularizer gave, float64 [], over evaluations.
  std::vector<at::Tensor> penalty_of;
  Value metrics = Value::map();  // what the controller gave

  // All zero, for a new epoch of a stage with so many regularizers.
  void begin(at::Device device, size_t regularizers);
  // loss: [], the mean of the batch; weight: how much it counts, undefined: as many as there are samples.
  // counts: false in all processes but one, where they all have the same batch.
  void add(const at::Tensor& loss, const at::Tensor& weight, const Prediction& prediction, const Metrics& of,
           bool counts = true);
  // The same meters with the sums of all processes.
  EpochMeters summed(const Processes& processes) const;
  // The mean loss so far.
  double loss() const;
  // What each regularizer gave in the mean.
  std::vector<double> mean_penalties() const;
};

}  // namespace espalier
