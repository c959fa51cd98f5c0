#pragma once

// What mixup and cutmix share: their one draw for a batch, and the targets of mixed images.
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <espalier/augmentation.h>
#include <espalier/error.h>

namespace espalier::mixing {

// Returns the logarithm of a draw from the gamma distribution of this shape and scale 1: Marsaglia and Tsang 2000, who
// reject a few in a hundred draws. Below shape 1 it is a draw of shape + 1 times U^(1 / shape); of small shapes only
// the logarithm is in the range of numbers.
inline double log_gamma(double shape, RandomKey key) {
  const auto uniform = [&](uint64_t counter, int word) {  // in (0, 1]
    const Random4 r = philox(key.value(), counter);
    return 1 - unit_double(r.v[word], r.v[word + 1]);
  };
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (uint64_t attempt = 1;; ++attempt) {
    const double x =
        std::sqrt(-2 * std::log(uniform(2 * attempt, 0))) * std::cos(2 * std::numbers::pi * uniform(2 * attempt, 2));
    const double cube = std::pow(1 + c * x, 3);
    if (cube <= 0) continue;
    if (std::log(uniform(2 * attempt + 1, 0)) >= x * x / 2 + d * (1 - cube + std::log(cube))) continue;
    return std::log(d * cube) + (shape < 1 ? std::log(uniform(0, 0)) / shape : 0);
  }
}

// Returns a draw from the distribution Beta(alpha, alpha).
inline double beta(double alpha, RandomKey key) {
  return 1 / (1 + std::exp(log_gamma(alpha, key.with("second")) - log_gamma(alpha, key.with("first"))));
}

// What a batch draws: how much an image keeps of itself; 1: the batch is left as it is.
inline double share_of(double alpha, double probability, RandomKey key) {
  if (static_cast<double>(unit_float(philox(key.value(), 0).v[0])) >= probability) return 1;
  return beta(alpha, key.with("share"));
}

// Makes the targets probabilities, and mixes those of each image with those of its partner, the image at the same place
// from the end of the batch.
inline void mix_targets(ImageBatch& batch, double share) {
  at::Tensor own = batch.targets;
  if (!own.is_floating_point()) {
    if (batch.classes <= 0) throw Error("the number of classes is not known, so targets cannot be mixed");
    own = at::zeros({own.size(0), batch.classes}, own.options().dtype(at::kFloat)).scatter_(1, own.unsqueeze(1), 1);
  }
  batch.targets = own * share + own.flip(0) * (1 - share);
}

}  // namespace espalier::mixing
