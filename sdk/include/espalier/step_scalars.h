#pragma once

#include <initializer_list>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"

namespace espalier {

// The few numbers that change from step to step (learning rate, bias corrections) as float64 in the memory of the
// device. Kernels read them there, because a captured CUDA graph would freeze arguments.
class ESPALIER_API StepScalars {
 public:
  // Sets the numbers for the coming step, without waiting for the device.
  void set(std::initializer_list<double> values, at::Device device);
  // Returns a pointer to the numbers, in the memory of the device, in the order in which they were set.
  const double* data() const { return device_.const_data_ptr<double>(); }

 private:
  at::Tensor
      host_;  // not pinned: the copy to a GPU has taken the values when it returns, so the next step may overwrite them
  at::Tensor device_;
};

}  // namespace espalier
