#include "train/epoch_meters.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

namespace espalier {

void EpochMeters::begin(at::Device device, size_t regularizers) {
  const auto options = at::TensorOptions().dtype(at::kDouble).device(device);
  loss_sum = at::zeros({}, options);
  loss_weight = at::zeros({}, options);
  leading = at::Tensor();
  penalty_of.clear();
  for (size_t i = 0; i < regularizers; ++i) penalty_of.push_back(at::zeros({}, options));
  gradient_norm = at::zeros({}, options);
  penalties = updates = images = 0;
  metrics = Value::map();
}

void EpochMeters::add(const at::Tensor& loss, const at::Tensor& weight, const Prediction& prediction, const Metrics& of,
                      bool counts) {
  const c10::NoGradGuard no_grad;
  const int64_t n = prediction.batch.size();
  images += prediction.batch.whole > 0 ? prediction.batch.whole : n;
  if (!counts) {
    // Nothing to add, but what there is has the same form in all processes.
  } else if (loss.is_cpu()) {
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
    at::Tensor c = m.contribution(prediction);
    if (!counts) c = at::zeros_like(c);
    leading = leading.defined() ? leading.add_(c) : c;
  });
}

EpochMeters EpochMeters::summed(const Processes& processes) const {
  EpochMeters all = *this;
  if (!processes.several()) return all;
  for (at::Tensor* sum : {&all.loss_sum, &all.loss_weight, &all.leading}) {
    if (!sum->defined()) continue;
    *sum = sum->contiguous().clone();
    processes.sum(*sum);
  }
  return all;
}

double EpochMeters::loss() const {
  const double weight = loss_weight.item<double>();
  return loss_sum.item<double>() / (weight > 0 ? weight : 1);
}

std::vector<double> EpochMeters::mean_penalties() const {
  std::vector<double> all;
  for (const at::Tensor& p : penalty_of)
    all.push_back(p.item<double>() / static_cast<double>(std::max<int64_t>(1, penalties)));
  return all;
}

}  // namespace espalier
