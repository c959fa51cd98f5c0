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

// Updates the selected parameters from their gradients, as a pass over the arena. It never sees an edit: its states
// follow the parameters, because they are registered with the Weights. Optimizers that update element by element derive
// from FlatOptimizer (flat_optimizer.h), which finds the pieces of the arenas. Plain gradient descent, without it:
//
//   class Descent final : public Optimizer {
//    public:
//     struct Options {
//       double lr = 0.1;
//       static void declare(Declare<Options>& p) { p("lr", &Options::lr, above(0), "Learning rate."); }
//     };
//     explicit Descent(const Options& options) : o_(options) {}
//     double learning_rate() const override { return o_.lr; }
//     void attach(const Graph& graph, Weights&, const Selector& on, const std::string&) override {
//       parameters_ = on.match(graph);
//     }
//     void step(Weights& weights, double learning_rate) override {
//       for (const ParamId p : parameters_) at::Tensor(weights[p]).sub_(weights.gradient(p), learning_rate);
//     }
//
//    private:
//     Options o_;
//     std::vector<ParamId> parameters_;
//   };
class ESPALIER_API Optimizer : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "optimizer";
  // Returns the learning rate of the options, which the schedule multiplies by a factor.
  virtual double learning_rate() const = 0;
  // Throws Error if it must not update the selected parameters in the way that its options say. It is called for every
  // stage while a recipe is planned or validated, with the structure that is planned for the stage.
  virtual void check(const Graph&, const Selector& /*on*/) const {}
  // Finds the selected parameters and registers states. It is called before the first step of a stage and again after
  // every edit; a state that is there stays as it is. `label` begins the names of states, and tells two optimizers of
  // one kind apart: "sgd", "sgd2".
  virtual void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) = 0;
  // Returns lines of text for `plan`: what is known before training about so many steps, those of a round or of the
  // whole stage. initial() makes the values that the training begins with.
  virtual std::vector<std::string> outlook(const Graph&, const std::function<const Weights&()>& /*initial*/,
                                           const Selector& /*on*/, int64_t /*steps*/) const {
    return {};
  }
  // Does one step with this learning rate, the one of the schedule. Gradients are not recorded. Throws Error if
  // attach() was never called for these Weights.
  virtual void step(Weights& weights, double learning_rate) = 0;
};

// Throws Error if one of the parameters must not decay: those of the kind "competition", which make coefficients with a
// threshold that a decay would draw up until nothing is left (paper 004). `what` begins the message: "'weight_decay'".
ESPALIER_API void require_may_decay(const Graph& graph, const std::vector<ParamId>& decayed, const std::string& what);

// A contiguous piece of an arena whose elements are updated alike, in elements; both ends are multiples of
// slot_alignment.
struct Span {
  int64_t begin = 0;  // the first element
  int64_t end = 0;    // the element after the last one
  double decay = 0;   // the weight decay of the elements
};

// Returns the pieces of a role's arena that hold the selected parameters, in order; neighbours that are alike are
// joined. They carry `decay` if `decayed` selects the parameter, and 0 otherwise; an empty `decayed` selects all.
ESPALIER_API std::vector<Span> spans_of(const Graph& graph, const Weights& weights, Role role, const Selector& on,
                                        double decay, const Selector& decayed);

// Returns the same spans as a table for CUDA kernels: a float64 tensor on the arena's device with one number for each
// block of slot_alignment elements, which is the decay, or NaN if the block is not selected.
ESPALIER_API at::Tensor span_table(const std::vector<Span>& spans, const Arena& arena);

}  // namespace espalier
