#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// What is known before a run of the changes that a stage will make.
struct Foreseen {
  Edits edits{};          // the changes of widths and blocks
  std::string why_not{};  // a sentence on what is expected and why the edits are not known; empty if they are
};

// A second base for optimizers, regularizers, controllers and schedules that know before anything is trained what will
// come of them.
class ESPALIER_API Foresight {
 public:
  Foresight() = default;
  Foresight(const Foresight&) = delete;
  Foresight& operator=(const Foresight&) = delete;
  virtual ~Foresight();
  // Returns, of a controller, what it finds in these values (on the CPU), as lines of text for `plan`: norms beside a
  // threshold, for example. `plan` says itself that these are the values with which the network begins.
  virtual std::vector<std::string> finds(const Graph& graph, const Weights& weights) const;
  // Returns, of a controller, the changes that it will make of these values, which the stage begins with, if
  // Controller::expected_edits does not give them: those of scores that depend on values. values: null if they are not
  // known before the run, since they will have been trained by then. The stages behind it are checked with what is
  // left, and `plan` says why_not.
  virtual Foreseen foresees(const Graph& graph, const Weights* values) const;
  // Returns a sentence for each option that is without effect with such a network in a stage of so many epochs: what
  // may be meant and may be a mistake. `validate`, `plan` and `run` say it at the recipe's place. What can only be a
  // mistake is an error of the constructor or of check().
  virtual std::vector<std::string> idle(const Graph& graph, int64_t epochs) const;
};

}  // namespace espalier
