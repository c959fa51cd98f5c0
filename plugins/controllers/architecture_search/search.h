#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <espalier/controller.h>
#include <espalier/own_step.h>
#include <espalier/selector.h>

#include "gradients_of.h"

namespace espalier {

inline constexpr const char* recipe_loss = "loss";

// What the searches have in common.
struct SearchOptions {
  std::string train_loss = recipe_loss;
  std::string validation_loss = recipe_loss;
  Selector watch;
  std::optional<double> stop_at_skip_ratio;
  int64_t hessian_every = 0;
  Selector gates;
};

// Declares options of SearchOptions as those of a struct that derives from it.
template <class Options>
void declare_losses(Declare<Options>& p) {
  p("train_loss", static_cast<std::string Options::*>(&SearchOptions::train_loss),
    "Loss of the training part: the name of an output of the network that is a single number, or loss, that of the "
    "recipe.");
  p("validation_loss", static_cast<std::string Options::*>(&SearchOptions::validation_loss),
    "Loss of the validation part, named in the same way.");
}
template <class Options>
void declare_watch(Declare<Options>& p) {
  p("watch", static_cast<Selector Options::*>(&SearchOptions::watch),
    "Parameters whose values are metrics of every epoch: w, or alpha of architecture parameters; w.NAME if several are "
    "named, and w.0, w.1, ... if they have several numbers.");
  p("stop_at_skip_ratio", static_cast<std::optional<double> Options::*>(&SearchOptions::stop_at_skip_ratio), above(0),
    at_most(1),
    "Share of skip_connect among the operations of the derived network, the metric skip_ratio, at which the stage ends "
    "because the search has collapsed. Left out: it never ends for this reason.");
  p("hessian_every", static_cast<int64_t Options::*>(&SearchOptions::hessian_every), at_least(0),
    "Number of epochs after which the metric hessian_eigenvalue is computed each time; 0: never. It is the eigenvalue "
    "of the largest absolute value, with its sign, of the Hessian of the recipe's loss of a validation batch in the "
    "architecture parameters, and takes up to 60 passes.");
}

template <class Options>
void declare_gates(Declare<Options>& p) {
  p("gates", static_cast<Selector Options::*>(&SearchOptions::gates),
    "Layers and batch norms whose channels get coefficients, which begin as 1 and are architecture parameters: a "
    "search of widths. A gate stands behind the batch norm and the activation function. Left out: no gates.");
}

// A controller that trains weights and architecture parameters with a step of its own.
class Search : public Controller, public OwnStep {
 public:
  // Returns the gates of `gates`.
  Edits begin(const Graph& graph) const override;
  void check(const Graph& graph) const override;
  void stage_begin(Run& run) override;
  void resume(Run& run, const Value& saved) override;
  void epoch_end(Run& run) override;
  // Measures once more, so that summary.json has the last values, and publishes the genotype.
  void stage_end(Run& run) override;

 protected:
  explicit Search(SearchOptions options) : search_(std::move(options)) {}

  const std::string& train_loss() const { return search_.train_loss; }
  const std::string& validation_loss() const { return search_.validation_loss; }
  virtual std::vector<std::string> losses() const { return {train_loss(), validation_loss()}; }

  // Gives the metrics of an epoch but that of the Hessian.
  virtual void measure(Run& run);

  // Adds the gradients of one role.
  static void pass(Run& run, const Batch& batch, Weights& weights, const std::string& loss, Role role);
  // The ordinary update of the weights: w <- w - eta grad_w L_a(w, alpha) (paper 003, (2.21) and (2.23)).
  void update_weights(Run& run, const Batch& batch) const;
  // Adds the penalties P(alpha) to the gradients of the architecture parameters, and updates these.
  static void update_architecture(Run& run);
  // Puts the watched values of some Weights among the metrics; `letter` is what weights are called.
  void watch(Run& run, const Weights& weights, const std::string& letter) const;

 private:
  // Finds out whether the network of the stage stands for another one. Throws Error if it must and does not.
  void see_what_is_derived(const Run& run);
  void measure_hessian(Run& run) const;

  SearchOptions search_;
  bool derives_ = false;
};

}  // namespace espalier
