#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/selector.h"
#include "espalier/weights.h"

namespace espalier {

// Updates the selected parameters from their gradients, as a pass over the arena. It never sees an edit: its state
// follows the parameters because it is registered with the Weights.
class ESPALIER_API Optimizer : public Object {
 public:
  static constexpr const char* kind = "optimizer";
  // The learning rate that the schedule scales.
  virtual double learning_rate() const = 0;
  // Called before the first step of a stage and after every edit. Register states here (a state that is there stays as
  // it is); `label` tells two optimizers of one kind apart in the names of what they keep.
  virtual void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) = 0;
  // For `plan`: what is known before training of so many steps (those of a round, or of the stage), as lines of text.
  // initial() makes the values that they begin with.
  virtual std::vector<std::string> outlook(const Graph&, const std::function<const Weights&()>& /*initial*/,
                                           const Selector& /*on*/, int64_t /*steps*/) const {
    return {};
  }
  // One step with this learning rate.
  virtual void step(Weights& weights, double learning_rate) = 0;
};

// A contiguous piece of an arena whose elements are updated alike.
struct Span {
  int64_t begin = 0;
  int64_t end = 0;
  double decay = 0;  // weight decay
};

// The pieces of a role's arena that hold the selected parameters; `decay` only for those that `decayed` selects (empty:
// all). Neighbours that are alike are joined.
ESPALIER_API std::vector<Span> spans_of(const Graph& graph, const Weights& weights, Role role, const Selector& on,
                                        double decay, const Selector& decayed);

// The same as one number for each block of slot_alignment elements on the weights' device, for kernels: the decay, NaN
// for elements that are not selected. float64.
ESPALIER_API at::Tensor span_table(const std::vector<Span>& spans, const Arena& arena);

}  // namespace espalier
