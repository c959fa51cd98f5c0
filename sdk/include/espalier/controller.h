#pragma once

#include <type_traits>

#include "espalier/component.h"
#include "espalier/run.h"

namespace espalier {

// Decides between steps how the structure changes; nothing else edits it. The functions are called in this order:
//
//   begin, stage_begin                     after the stage has its network, its data and its optimizers
//   for each epoch:
//     epoch_begin
//     for each batch: step, step_end       a checkpoint may be written after each step_end
//       within the step: backward_end after each backward pass, update_begin and update_end around each update
//     evaluation_begin, evaluation_end     around the evaluations; then the best checkpoint is chosen
//     epoch_end                            the metrics of the epoch are written after it
//   stage_end                              the network is evaluated again if anything changed
//
// What a controller does not override does nothing. Run::edit may be called in all of them that take a Run, except
// within a training step and around evaluations.
//
// A stage may have several controllers (`controllers:`). Each function is called for all of them in the order of the
// recipe, and each sees what those before it have done. Only `step` is called for one of them: for the one whose class
// overrides it, and a stage may have one of those at most. An example that trains as usual and removes filters at the
// end of the stage:
//
//   class KeepStrong final : public Controller {
//    public:
//     struct Options {
//       double tau = 0.1;
//       static void declare(Declare<Options>& p) {
//         p("tau", &Options::tau, above(0), "Norm up to which a filter is removed.");
//       }
//     };
//     explicit KeepStrong(const Options& options) : o_(options) {}
//     void stage_end(Run& run) override {
//       Edits edits;
//       for (const Axis axis : filter_axes(run.graph(), {})) {
//         const std::vector<double> norms = filter_norms(run.graph(), run.weights(), axis);
//         Indices kept;
//         for (size_t i = 0; i < norms.size(); ++i) {
//           if (norms[i] > o_.tau) kept.push_back(static_cast<int64_t>(i));
//         }
//         if (!kept.empty() && kept.size() < norms.size()) edits.push_back(shrink(run.graph(), axis, kept));
//       }
//       run.edit(edits);
//     }
//
//    private:
//     Options o_;
//   };
//
// docs/first-controller.md writes, tests and runs one from beginning to end.
class ESPALIER_API Controller : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "controller";
  // Returns the edits that are carried out at once, before anything else of the stage: for example gates that the
  // method needs. They are known without training, so recipes are checked against the network as it will be.
  virtual Edits begin(const Graph&) const { return {}; }
  // Throws Error if the controller could do nothing with such a network: nothing to prune or grow, a budget that is
  // exceeded from the start, a selector that names nothing useful. It is called for every stage while a recipe is
  // planned or validated, with the structure that is planned for the stage, so the message comes before anything is
  // trained. A controller that relies on it calls it in stage_begin as well.
  virtual void check(const Graph&) const {}
  // Returns the changes of widths that the stage will make, as far as they are known without training: how many
  // positions go counts, not which. The stages that follow are checked against the network as it will be then.
  virtual Edits expected_edits(const Graph&) const { return {}; }
  // Returns the epochs between two decisions of a controller that works in rounds; 0 if it does not. `plan` shows it.
  virtual int64_t round() const { return 0; }
  // Is called once before the first epoch: register states and follow other Weights here.
  virtual void stage_begin(Run&) {}
  // Is called before the first batch of each epoch.
  virtual void epoch_begin(Run&) {}
  // Does one training step with a batch. Override it to compose another step from the parts that Run offers; the
  // schedule and the number of the step are set already.
  virtual void step(Run& run, const Batch& batch) { run.train_step(batch); }
  // Is called within a step when a backward pass has added its gradients to those of `weights`, which are the network's
  // or others that are followed; those of the regularizers come after it.
  virtual void backward_end(Run&, Weights& /*weights*/) {}
  // Is called within a step before an update of `weights`: all gradients are there and nothing is clipped yet.
  virtual void update_begin(Run&, Weights& /*weights*/) {}
  // Is called within a step after an update of `weights`.
  virtual void update_end(Run&, Weights& /*weights*/) {}
  // Is called after each step; run.step() is still the number of that step.
  virtual void step_end(Run&) {}
  // Is called before the network is evaluated on the test part, and on what is held out for validation: to put other
  // values into the network's weights, such as their average. Run::evaluate, which controllers call, does not call it.
  virtual void evaluation_begin(Run&) {}
  // Is called after these evaluations, also if one of them was interrupted. The values must be again what they were
  // before evaluation_begin(), bit for bit.
  virtual void evaluation_end(Run&) {}
  // Is called after the evaluation of each epoch. What it changes is measured by the next evaluation: that of the next
  // epoch, or the one at the end of the stage.
  virtual void epoch_end(Run&) {}
  // Is called after the last epoch. Edits here are the last of the stage.
  virtual void stage_end(Run&) {}
  // Returns what the controller keeps besides states of parameters and followed Weights. It is called for every
  // checkpoint, so it must be valid after every step.
  virtual Value save() const { return {}; }
  // Is called in place of stage_begin() when a run goes on from a checkpoint, with what save() returned. Register the
  // same states and follow the same Weights as in stage_begin(); their values are set afterwards.
  virtual void resume(Run&, const Value& /*saved*/) {}

  // The word that a component provides whose class overrides step().
  static constexpr const char* own_step = "step";
  // Is called by component<T>(): says whether T overrides step().
  template <class T>
  static void describe(Component& c) {
    if constexpr (!requires { requires std::is_same_v<decltype(&T::step), void (Controller::*)(Run&, const Batch&)>; })
      c.provides.emplace_back(own_step);
  }
};

}  // namespace espalier
