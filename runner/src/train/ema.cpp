#include "train/ema.h"

#include <algorithm>

#include <ATen/ops/lerp.h>
#include <c10/core/GradMode.h>

namespace espalier {

namespace {

constexpr const char* steps = "ema.steps";

}  // namespace

Ema::Ema(const EmaSection& section, const Graph& graph, const Weights& weights)
    : section_(section), average_(std::make_shared<Weights>(graph, weights.dtype(), weights.device())) {
  const c10::NoGradGuard no_grad;
  average_->copy_from(weights);
}

void Ema::step(const Weights& weights) {
  const c10::NoGradGuard no_grad;
  const double t = ++average_->counters()[steps];
  double decay = section_.decay;
  if (section_.warmup > 0) decay = std::min(decay, (1 + t) / (static_cast<double>(section_.warmup) + t));
  for (const Role role : {Role::weight, Role::architecture, Role::buffer}) {
    at::Tensor to = average_->bank(role).values.flat();
    if (to.numel() > 0) to.lerp_(weights.bank(role).values.flat(), 1 - decay);
  }
}

}  // namespace espalier
