#pragma once

#include <array>
#include <barrier>
#include <cstddef>
#include <functional>
#include <thread>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "espalier/parts.h"

namespace espalier {

// Two threads that compute a part of a batch each and add tensors over both.
class TwoParts {
 public:
  void run(const std::function<void(size_t, const SumOverParts&)>& body) {
    const std::array<SumOverParts, 2> sums{summing(0), summing(1)};
    std::thread other([&] { body(1, sums[1]); });
    body(0, sums[0]);
    other.join();
  }

 private:
  SumOverParts summing(size_t i) {
    return [this, i](const at::Tensor& t) {
      given_[i] = t.clone();
      there_.arrive_and_wait();
      const at::Tensor total = given_[0] + given_[1];
      taken_.arrive_and_wait();
      t.copy_(total);
    };
  }
  std::array<at::Tensor, 2> given_;
  std::barrier<> there_{2}, taken_{2};
};

}  // namespace espalier
