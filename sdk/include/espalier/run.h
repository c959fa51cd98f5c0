#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/random.h"
#include "espalier/value.h"
#include "espalier/weights.h"

namespace espalier {

// One batch on the device.
struct Batch {
  at::Tensor input;   // [batch, ...]
  at::Tensor target;  // int64 [batch]
};

struct Evaluation {
  double loss = 0;
  double accuracy = 0;  // percent
  double top5 = 0;      // percent; 0 where there are fewer than 20 classes
};

// What the runner offers to a controller.
class ESPALIER_API Run {
 public:
  virtual ~Run();

  virtual const Graph& graph() const = 0;
  virtual Weights& weights() = 0;
  // The stage's name, its epochs, the epoch under way (0-based) and the step in it.
  virtual const std::string& stage() const = 0;
  virtual int64_t epochs() const = 0;
  virtual int64_t epoch() const = 0;
  virtual int64_t step() const = 0;
  // Of the present step; derive from it with a purpose.
  virtual RandomKey key() const = 0;

  // Carries the edit out on the graph, all weights and all state: what is removed is first set to zero with all that
  // makes it a constant; both differences on a full batch are measured, checked and written to the history. Throws
  // EditError with the axis and the reason where it is impossible; nothing has changed then.
  virtual void edit(const Edit& edit) = 0;
  // Another Weights of the same graph that edits must follow and checkpoints hold, under a name of its own; it lives as
  // long as the caller keeps it.
  virtual void follow(const std::string& name, const std::shared_ptr<Weights>& weights) = 0;

  // The ordinary training step: gradients of the loss and the regularizers, clipping, the optimizers.
  virtual void train_step(const Batch& batch) = 0;
  // Its parts, for controllers that compose their own.
  virtual void add_gradients(const Batch& batch, Weights& weights) = 0;
  virtual void add_regularizers(Weights& weights) = 0;
  virtual void update(Weights& weights) = 0;
  // part: "test", "validation", "train"
  virtual Evaluation evaluate(std::string_view part) = 0;

  // Puts a number among the epoch's metrics.
  virtual void metric(const std::string& name, double value) = 0;
  // A line for whoever watches the run.
  virtual void note(const std::string& text) = 0;
};

}  // namespace espalier
