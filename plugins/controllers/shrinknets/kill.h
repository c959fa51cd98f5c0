#pragma once

namespace espalier {

// When a switch is killed (paper 002, section 3.4; the rules are those of the authors' program).
enum class Kill { none, sign_variance, sign_change, not_positive };

// The rule with its numbers. A running mean and a running variance of the sign follow each switch, the variance first:
// d = sign - mean, variance = gamma variance + (1 - gamma) d^2, mean = gamma mean + (1 - gamma) sign.
struct KillRule {
  Kill kind = Kill::sign_variance;
  double gamma = 0.99;
  double variance = 0.5;

  // Takes the sign of a switch in; returns whether it dies now.
  template <class T>
  bool kills(T value, T& mean, T& running) const {
    const T sign = value > 0 ? T(1) : value < 0 ? T(-1) : T(0);
    const T before = mean, d = sign - before, g = static_cast<T>(gamma);
    running = g * running + (1 - g) * d * d;
    mean = g * before + (1 - g) * sign;
    switch (kind) {
      case Kill::none:
        return false;
      case Kill::sign_variance:
        return running > static_cast<T>(variance);
      case Kill::sign_change:
        mean = sign;
        return sign * before < 0;
      case Kill::not_positive:
        return value <= 0;
    }
    return false;
  }
};

}  // namespace espalier
