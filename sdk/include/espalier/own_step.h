#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/api.h"

namespace espalier {

// What one training step takes.
struct StepCost {
  int64_t passes = 1;  // how often a batch goes forward and backward through the network
  // How many Weights of the network there are at once, its own included. Those that share the architecture parameters
  // count as others do.
  int64_t copies = 1;
  std::vector<std::string> parts{"train"};  // the parts of the data that a step takes batches of: train, validation
  // Whether weights and architecture parameters are updated one after the other. Then each of them needs an optimizer
  // of its own, which is checked before anything is trained.
  bool roles_apart = false;
};

// A second base for controllers that override Controller::step. It says before anything is trained what a step takes:
// `plan` shows it and counts the memory of all copies, and the passes count in the train cost of a run.
class ESPALIER_API OwnStep {
 public:
  OwnStep() = default;
  OwnStep(const OwnStep&) = delete;
  OwnStep& operator=(const OwnStep&) = delete;
  virtual ~OwnStep();
  // Returns what a step of this controller, with its options, takes.
  virtual StepCost step_cost() const = 0;
};

}  // namespace espalier
