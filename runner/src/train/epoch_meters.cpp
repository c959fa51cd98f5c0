#include "train/epoch_meters.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace espalier {

namespace {

// How many rows of float32 logits have their largest value at the target; six small operations of LibTorch otherwise.
int64_t count_correct(const at::Tensor& logits, const at::Tensor& target) {
  const auto* row = logits.const_data_ptr<float>();
  const auto* wanted = target.const_data_ptr<int64_t>();
  const int64_t classes = logits.size(1);
  int64_t correct = 0;
  for (int64_t n = 0; n < logits.size(0); ++n, row += classes)
    correct += std::max_element(row, row + classes) - row == wanted[n];
  return correct;
}

}  // namespace

void EpochMeters::begin(at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  loss_sum = at::zeros({}, options);
  correct = at::zeros({}, options);
  penalty = at::zeros({}, options);
  images = 0;
  metrics = Value::map();
}

void EpochMeters::add(const at::Tensor& loss, const at::Tensor& logits, const Batch& batch) {
  const c10::NoGradGuard no_grad;
  const int64_t n = batch.target.size(0);
  images += n;
  if (logits.is_cpu() && logits.scalar_type() == at::kFloat && logits.is_contiguous()) {
    *loss_sum.mutable_data_ptr<double>() += loss.item<double>() * static_cast<double>(n);
    *correct.mutable_data_ptr<double>() += static_cast<double>(count_correct(logits, batch.target));
    return;
  }
  loss_sum.add_(loss.detach().to(at::kDouble), n);
  correct.add_(logits.argmax(1).eq(batch.target).sum());
}

}  // namespace espalier
