#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/controller.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "espalier/schedule.h"
#include "recipe/recipe.h"
#include "train/made.h"

namespace espalier {

// The components of a stage at work: optimizers, regularizers, controller and schedule.
class StageParts {
 public:
  // Makes them. known: a spec with what it takes from earlier stages in place.
  void make(const StageSection& section, const std::function<Value(const Value&)>& known);
  // Lets them find what they work on; needed before the first step and after every edit.
  void attach(const Graph& graph, Weights& weights);
  // For other Weights of the same graph that the optimizers update.
  void attach_optimizers(const Graph& graph, Weights& weights) const;

  const Made<Controller>& controller() const { return controller_; }
  Schedule& schedule() const { return *schedule_; }
  // Of the first optimizer; 0 without one.
  double learning_rate() const;
  // The rate of each parameter in an update of these roles, with the schedule's factor.
  LearningRates rates(const Graph& graph, const std::vector<Role>& roles, double lr_factor) const;

  // Adds the gradients of the penalties, and their values to `penalty` (float64 []). note: told once in a stage of
  // those that are exactly zero.
  void add_regularizers(const Graph& graph, Weights& weights, at::Tensor& penalty,
                        const std::function<void(const std::string&)>& note);
  // Clips the gradients of these roles, steps their optimizers, and lets the regularizers act on what they changed.
  // Throws InputError where an optimizer is for both roles and one of them is meant.
  void update(const Graph& graph, Weights& weights, const std::vector<Role>& roles, double lr_factor);
  // Whether the last update scaled the gradients down; waits for the device.
  bool clipped() const;
  void begin_step() { clip_factor_ = at::Tensor(); }

 private:
  const StageSection* section_ = nullptr;
  std::vector<Made<Optimizer>> optimizers_;
  std::vector<std::vector<Role>> optimized_;  // by each of them
  std::vector<int> optimizer_of_;             // of each parameter, its position among them; -1: none updates it
  std::vector<Made<Regularizer>> regularizers_;
  bool penalties_looked_at_ = false;  // in this stage: those that are exactly zero were noted
  Made<Controller> controller_;
  std::unique_ptr<Schedule> schedule_;
  at::Tensor clip_factor_;  // of the last update; undefined: nothing was to be clipped
};

}  // namespace espalier
