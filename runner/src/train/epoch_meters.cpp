#include "train/epoch_meters.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace espalier {

void EpochMeters::begin(at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  loss_sum = at::zeros({}, options);
  loss_weight = at::zeros({}, options);
  leading = at::Tensor();
  penalty = at::zeros({}, options);
  gradient_norm = at::zeros({}, options);
  penalties = updates = images = 0;
  metrics = Value::map();
}

void EpochMeters::add(const at::Tensor& loss, const at::Tensor& weight, const Prediction& prediction,
                      const Metrics& of) {
  const c10::NoGradGuard no_grad;
  const int64_t n = prediction.batch.size();
  images += n;
  if (loss.is_cpu()) {
    const double w = weight.defined() ? weight.item<double>() : static_cast<double>(n);
    *loss_sum.mutable_data_ptr<double>() += loss.item<double>() * w;
    *loss_weight.mutable_data_ptr<double>() += w;
  } else if (weight.defined()) {
    loss_sum.add_(loss.detach().to(at::kDouble) * weight);
    loss_weight.add_(weight);
  } else {
    loss_sum.add_(loss.detach().to(at::kDouble), n);
    loss_weight.add_(n);
  }
  const Made<Metric>* metric = of.of_steps();
  if (!metric) return;
  metric->call([&](Metric& m) {
    const at::Tensor c = m.contribution(prediction);
    leading = leading.defined() ? leading.add_(c) : c;
  });
}

double EpochMeters::loss() const {
  const double weight = loss_weight.item<double>();
  return loss_sum.item<double>() / (weight > 0 ? weight : 1);
}

}  // namespace espalier
