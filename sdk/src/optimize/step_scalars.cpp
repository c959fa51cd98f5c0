#include "espalier/step_scalars.h"

#include <algorithm>

#include <ATen/ops/empty.h>

namespace espalier {

void StepScalars::set(std::initializer_list<double> values, at::Device device) {
  const auto n = static_cast<int64_t>(values.size());
  if (!host_.defined() || host_.numel() != n || device_.device() != device) {
    host_ = at::empty({n}, at::TensorOptions().dtype(at::kDouble));
    device_ = device.is_cuda() ? at::empty({n}, at::TensorOptions().dtype(at::kDouble).device(device)) : host_;
  }
  std::ranges::copy(values, host_.mutable_data_ptr<double>());
  if (device.is_cuda()) device_.copy_(host_, /*non_blocking=*/true);
}

}  // namespace espalier
