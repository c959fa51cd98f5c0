#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/controller.h"
#include "espalier/loss.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "espalier/schedule.h"
#include "recipe/recipe.h"
#include "train/made.h"

namespace espalier {

// The components of a stage at work: loss, optimizers, regularizers, controller and schedule.
class StageParts {
 public:
  // Makes them. known: a spec with what it takes from earlier stages in place. target: of the data, whose task has a
  // loss where the section names none. Throws InputError where the loss is not for it.
  void make(const StageSection& section, const std::function<Value(const Value&)>& known, const TargetSpec& target);
  // Lets them find what they work on; needed before the first step, after every edit, and where `epoch` is one in which
  // frozen parameters thaw.
  void attach(const Graph& graph, Weights& weights, int64_t epoch);
  // Lets optimizers and regularizers find the same in other Weights of the same graph that the optimizers update.
  void attach_copy(const Graph& graph, Weights& weights) const;
  // Lets the regularizers change the values once more when the epochs are over.
  void end_stage(const Graph& graph, Weights& weights) const;

  const Made<Loss>& loss() const { return loss_; }
  // In the order of the recipe; at least one.
  const std::vector<Made<Controller>>& controllers() const { return controllers_; }
  // The one whose step is carried out: that which has a step of its own, or the first.
  const Made<Controller>& stepper() const;
  Schedule& schedule() const { return *schedule_; }
  // How often a batch goes forward and backward through the network in a step of the controller.
  int64_t passes() const { return passes_; }
  // Of the first optimizer, with the schedule's factor; 0 without one.
  double learning_rate(double lr_factor) const;
  // Of each optimizer and each factor of a learning rate, by the name of its states: sgd, sgd*0.1, adam2.
  std::vector<std::pair<std::string, double>> learning_rates(double lr_factor) const;
  // That a parameter has in the step under way, with the schedule's factor; 0: no optimizer updates it.
  double learning_rate(ParamId p, double lr_factor) const;
  // The rate of each parameter in an update of these roles, with the schedule's factor.
  LearningRates rates(const Graph& graph, const std::vector<Role>& roles, double lr_factor) const;

  // The names of the regularizers: l1, kernel_number, l1-2.
  std::vector<std::string> regularizers() const;
  // Adds the gradients of the penalties, and the value of each to its own of `penalties` (float64 []). note: told once
  // in a stage of those that are exactly zero.
  void add_regularizers(const Graph& graph, Weights& weights, std::vector<at::Tensor>& penalties,
                        const std::function<void(const std::string&)>& note);
  // Clips the gradients of these roles, steps their optimizers, and lets the regularizers act on what they changed.
  // Throws InputError where an optimizer is for both roles and one of them is meant. Returns the l2 norm of these
  // gradients before they were clipped, float64 [], if the section asks for one or clips, else undefined.
  at::Tensor update(const Graph& graph, Weights& weights, const std::vector<Role>& roles, double lr_factor);
  // Whether the last update scaled the gradients down; waits for the device.
  bool clipped() const;
  void begin_step() { clip_factor_ = at::Tensor(); }

 private:
  // The gradients of these roles, in few pieces. clipped: without those of optimizers that have `clipped: false`.
  std::vector<at::Tensor> gradients(const Weights& weights, const std::vector<Role>& roles, bool clipped) const;

  // One optimizer of the recipe, for those of its parameters that have one factor of the learning rate.
  struct Group {
    size_t section = 0;  // among the recipe's optimizers
    double factor = 1;
    Made<Optimizer> made;
    std::string label;        // of its states
    Selector on;              // at present
    std::vector<Role> roles;  // at present, of its parameters
  };
  // What the schedule multiplies its learning rate by: 1 where its optimizer has `scheduled: false`.
  double scheduled(const Group& group, double lr_factor) const;
  // The group, made where there is none yet.
  Group& group_of(size_t section, double factor);
  // The factor of each parameter; none: it is frozen.
  std::vector<std::optional<double>> factors(const Graph& graph, int64_t epoch) const;

  const StageSection* section_ = nullptr;
  std::vector<Value> optimizer_specs_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<int> optimizer_of_;  // of each parameter, the position of its group; -1: none updates it
  Made<Loss> loss_;
  std::vector<bool> unclipped_;  // of each parameter, whether its optimizer has `clipped: false`
  int64_t passes_ = 1;
  std::vector<Made<Regularizer>> regularizers_;
  bool penalties_looked_at_ = false;  // in this stage: those that are exactly zero were noted
  std::vector<Made<Controller>> controllers_;
  std::unique_ptr<Schedule> schedule_;
  at::Tensor clip_factor_;  // of the last update; undefined: nothing was to be clipped
};

}  // namespace espalier
