#pragma once

#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"

namespace espalier {

// Adds a tensor of any floating type and device over the processes that compute a batch together, in place: afterwards
// all of them have the same bits. Every process has to call it at the same place with the same sizes. Autograd is not
// told. It throws Error if another process is gone.
using SumOverParts = std::function<void(const at::Tensor&)>;

// Which samples of a batch this process has, where several processes compute the batch together (data-parallel
// training). What an operation does to each sample by itself needs nothing of it.
struct BatchPart {
  // How many samples of the batch come before those of this process; random draws continue from there.
  int64_t first = 0;
  // How many samples this process has; 0 where it has all of them.
  int64_t samples = 0;
  // What adds a tensor over the processes, for operations that take something of the whole batch, such as its mean.
  // Null: this process has the whole batch, or the recipe wants each process to look at its own part alone. It is
  // valid until the backward pass is done.
  const SumOverParts* sum = nullptr;

  // Returns where the draws for a tensor [batch, ...] begin, in elements: behind those of the samples before. It is 0
  // for a tensor that depends on no sample, whose batch is 1.
  int64_t first_element(const at::Tensor& x) const {
    if (first == 0 || x.size(0) != samples) return 0;
    return first * (x.numel() / x.size(0));
  }
};

// Returns the sum of a tensor over the processes. Autograd records it, and a derivative of any order is added over the
// processes likewise: the gradients are those of the sum of all processes' losses.
ESPALIER_API at::Tensor sum_over_parts(const at::Tensor& x, const SumOverParts& sum);

}  // namespace espalier
