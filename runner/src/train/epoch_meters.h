#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "espalier/run.h"
#include "espalier/value.h"

namespace espalier {

// What an epoch's training steps come to: sums on the device, so that no step waits for it.
struct EpochMeters {
  at::Tensor loss_sum;  // float64 [], over images
  at::Tensor correct;   // float64 [], images whose class has the largest logit
  at::Tensor penalty;   // float64 [], over steps
  int64_t images = 0;
  Value metrics = Value::map();  // what the controller gave

  // All zero, for a new epoch.
  void begin(at::Device device);
  // loss: [], the mean of the batch; logits: [batch, classes].
  void add(const at::Tensor& loss, const at::Tensor& logits, const Batch& batch);
};

}  // namespace espalier
