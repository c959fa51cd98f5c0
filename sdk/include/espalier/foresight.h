#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

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
  // Returns a sentence for each option that is without effect with such a network in a stage of so many epochs: what
  // may be meant and may be a mistake. `validate`, `plan` and `run` say it at the recipe's place. What can only be a
  // mistake is an error of the constructor or of check().
  virtual std::vector<std::string> idle(const Graph& graph, int64_t epochs) const;
};

}  // namespace espalier
