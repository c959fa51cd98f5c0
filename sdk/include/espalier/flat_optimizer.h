#pragma once

#include <map>
#include <string>
#include <vector>

#include "espalier/optimizer.h"

namespace espalier {

// The common part of optimizers that update element by element: it finds the pieces of the arenas that hold the
// selected parameters, again after every edit, and registers the states. A subclass names its states, and writes
// begin_step() and update(). `espalier new optimizer NAME` writes a complete one.
class ESPALIER_API FlatOptimizer : public Optimizer {
 public:
  // Throws Error if the weight decay acts on parameters that must not decay.
  void check(const Graph& graph, const Selector& on) const override;
  // Registers the states and finds the spans.
  void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) override;
  // Calls begin_step(), then update() for each part. Throws Error if the Weights are not attached.
  void step(Weights& weights, double learning_rate) final;

 protected:
  // What there is to update of one bank.
  struct Part {
    Bank* bank = nullptr;     // values, gradients and states
    std::vector<Span> spans;  // the pieces to update
    at::Tensor table;         // span_table() of the spans if the weights lie on a GPU, else undefined
  };
  // Returns the names of the states. Each has the shape of its parameter and is zero at first.
  virtual std::vector<std::string> states() const = 0;
  // Returns the weight decay that spans carry.
  virtual double weight_decay() const { return 0; }
  // Returns the parameters that the weight decay is for; an empty selector means all.
  virtual const Selector& decayed() const;
  // Is called once in each step, before update(): set the scalars of the step here (StepScalars).
  virtual void begin_step(Weights& weights, double learning_rate) = 0;
  // Updates all elements of the part's spans in the arenas of its bank. It is called once for each bank with selected
  // parameters. Writing through raw pointers is fine: step() touches the arenas of values and states afterwards.
  virtual void update(Weights& weights, Part& part) = 0;

  // Returns the label that attach() was given.
  const std::string& label() const { return label_; }
  // Returns the full name of one of states(): "sgd.momentum" with the label "sgd".
  std::string state_name(const std::string& state) const { return label_ + "." + state; }
  // Returns the arena of a state, by its full name.
  static Arena& arena(Part& part, const std::string& name) { return part.bank->states.at(name); }

 private:
  std::string label_;
  std::map<const Weights*, std::vector<Part>> parts_;  // RARTS steps two Weights with one optimizer
};

}  // namespace espalier
