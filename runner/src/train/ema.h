#pragma once

#include <memory>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "recipe/recipe.h"

namespace espalier {

// The exponential moving average of a network's weights and statistics over the steps of a stage.
class Ema {
 public:
  static constexpr const char* name = "ema";  // under which edits and checkpoints follow it

  // Begins with the values of the network.
  Ema(const EmaSection& section, const Graph& graph, const Weights& weights);
  // Takes the values after a step in.
  void step(const Weights& weights);

  const std::shared_ptr<Weights>& weights() const { return average_; }

 private:
  EmaSection section_;
  std::shared_ptr<Weights> average_;
};

}  // namespace espalier
