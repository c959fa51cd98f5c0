#pragma once

#include <map>
#include <string>
#include <vector>

#include "espalier/optimizer.h"

namespace espalier {

// What optimizers that update element by element share: which pieces of which arenas they work on, found again after
// every edit.
class ESPALIER_API FlatOptimizer : public Optimizer {
 public:
  void attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) override;
  void step(Weights& weights, double learning_rate) final;

 protected:
  struct Part {
    Bank* bank = nullptr;
    std::vector<Span> spans;
    at::Tensor table;  // span_table() on a GPU
  };
  // Names of the states that are like the parameters, zero at first.
  virtual std::vector<std::string> states() const = 0;
  // The decay that spans carry, and which parameters it is for.
  virtual double weight_decay() const { return 0; }
  virtual const Selector& decayed() const;
  // Called once a step before update(): set the scalars.
  virtual void begin_step(Weights& weights, double learning_rate) = 0;
  virtual void update(Weights& weights, Part& part) = 0;

  const std::string& label() const { return label_; }
  // The full name of one of states(): "sgd.momentum" with the label "sgd".
  std::string state_name(const std::string& state) const { return label_ + "." + state; }
  static Arena& arena(Part& part, const std::string& name) { return part.bank->states.at(name); }

 private:
  std::string label_;
  std::map<const Weights*, std::vector<Part>> parts_;  // RARTS steps two Weights with one optimizer
};

}  // namespace espalier
