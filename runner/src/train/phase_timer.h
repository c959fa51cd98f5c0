#pragma once

#include <torch/cuda.h>

#include "train/trainer.h"

namespace espalier {

// Adds the time of a scope to one of the phases; costs nothing where none are measured.
class Trainer::PhaseTimer {
 public:
  PhaseTimer(const Trainer& trainer, double Phases::*phase) : trainer_(trainer), phase_(phase) {
    if (trainer_.phases_) began_ = Clock::now();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;
  ~PhaseTimer() {
    if (!trainer_.phases_) return;
    try {
      if (trainer_.phases_->wait) torch::cuda::synchronize();
    } catch (const std::exception&) {  // the step's own call will meet the error again
    }
    trainer_.phases_->*phase_ += std::chrono::duration<double>(Clock::now() - began_).count();
  }

 private:
  const Trainer& trainer_;
  double Phases::*phase_;
  Clock::time_point began_;
};

}  // namespace espalier
