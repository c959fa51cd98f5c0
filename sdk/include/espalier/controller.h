#pragma once

#include "espalier/component.h"
#include "espalier/run.h"

namespace espalier {

// Decides between steps, and is the only one who edits structure. What it does not override does nothing.
class ESPALIER_API Controller : public Object {
 public:
  static constexpr const char* kind = "controller";
  // What it changes at once, before anything else of a stage: gates that it needs, say. Known without training, so that
  // recipes are checked against the network as it will be.
  virtual Edits begin(const Graph&) const { return {}; }
  // Throws Error where it could do nothing with such a network: nothing to prune or grow, a budget that is exceeded
  // from the start, a selector that means nothing. Called for every stage while a recipe is checked, with the structure
  // that is planned for it, so that the message comes before anything is trained; and when the stage begins.
  virtual void check(const Graph&) const {}
  // The changes of widths that it will make in its stage, as far as they are known without training: how many positions
  // go counts, not which. The stages behind it are checked against the network as it will be then.
  virtual Edits expected_edits(const Graph&) const { return {}; }
  // Epochs between its decisions, where it works in rounds; 0: it does not. `plan` asks.
  virtual int64_t round() const { return 0; }
  virtual void stage_begin(Run&) {}
  virtual void epoch_begin(Run&) {}
  // One training step; override it to compose another from the parts that Run offers.
  virtual void step(Run& run, const Batch& batch) { run.train_step(batch); }
  virtual void step_end(Run&) {}
  virtual void epoch_end(Run&) {}
  virtual void stage_end(Run&) {}
  // What it keeps besides states of parameters, for checkpoints.
  virtual Value save() const { return {}; }
  // Called in place of stage_begin() where a run goes on from a checkpoint, with what save() gave: register the same
  // states and follow the same Weights as there; their values are set afterwards.
  virtual void resume(Run&, const Value& /*saved*/) {}
};

}  // namespace espalier
