#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
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

// Something that a stage found and hands on to later stages and to other runs: a genotype, scores, a table of
// latencies.
struct Artefact {
  Value value;  // what recipes may refer to: a number, a text, a list or a map
  std::vector<std::pair<std::string, at::Tensor>> tensors{};
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
  // The stage ends with the epoch under way, where its purpose is reached.
  virtual void end_stage() = 0;
  virtual int64_t epoch() const = 0;
  virtual int64_t step() const = 0;
  // Of the present step; derive from it with a purpose.
  virtual RandomKey key() const = 0;

  // Carries the edits out on the graph, all weights and all state: what is removed is first set to zero with all that
  // makes it a constant; the differences on a full batch are measured, checked and written to the history. Throws
  // EditError with the axis or node and the reason where one is impossible; nothing has changed then. Many changes of
  // widths in one call are one pass over the memory.
  virtual void edit(const Edits& edits) = 0;
  void edit(const Edit& edit) { this->edit(Edits{edit}); }
  // Another Weights of the same graph that edits must follow and checkpoints hold, under a name of its own; it lives as
  // long as the caller keeps it. optimized: update() will be called on it, so the optimizers keep states there too.
  virtual void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) = 0;
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights) { follow(name, weights, false); }

  // The ordinary training step: gradients of the loss and the regularizers, clipping, the optimizers.
  virtual void train_step(const Batch& batch) = 0;
  // Its parts, for controllers that compose their own. `loss`: the graph's output that is differentiated; of a network
  // with several, each step names the one that it means. Gradients add to those that there are.
  virtual void add_gradients(const Batch& batch, Weights& weights, std::string_view loss) = 0;
  void add_gradients(const Batch& batch, Weights& weights) { add_gradients(batch, weights, "loss"); }
  virtual void add_regularizers(Weights& weights) = 0;
  // Clips the gradients of these roles and steps the optimizers that are for them. An optimizer that is for both roles
  // can only step both.
  virtual void update(Weights& weights, const std::vector<Role>& roles) = 0;
  void update(Weights& weights) { update(weights, {Role::weight, Role::architecture}); }
  // Another batch, of "train" or "validation", shuffled, for steps that take several: the n-th of this step. The same
  // in a resumed run.
  virtual Batch draw(std::string_view part, int64_t n) = 0;
  Batch draw(std::string_view part) { return draw(part, 0); }
  // part: "test", "validation", "train"
  virtual Evaluation evaluate(std::string_view part) = 0;

  // The learning rate that a parameter has in the step under way: that of its optimizer, scaled by the schedule. 0
  // where no optimizer updates it.
  virtual double learning_rate(ParamId p) const = 0;
  // Samples of a full training batch; the last one of an epoch may have fewer.
  virtual int64_t batch_size() const = 0;
  // Whether the last update scaled the gradients down because their norm was above `clip_norm`. Waits for the device.
  virtual bool clipped() const = 0;

  // Hands `artefact` on under NAME of the present stage. A later stage of the recipe refers to it as STAGE.NAME
  // (`normal: {from: search.genotype}`), another recipe with the run's folder besides (`run: ../search`). Written to
  // artefacts/STAGE.NAME.json (and .safetensors) of the run's folder, and kept in checkpoints; publishing again
  // replaces it. The component declares the name with Component::publish, so that recipes are checked before they run.
  // Throws Error where it does not, or where the name is not made of letters, digits, '_' and '-'.
  virtual void publish(const std::string& name, const Artefact& artefact) = 0;
  // What a stage of this run published: "STAGE.NAME". Throws Error naming the nearest one where there is none.
  virtual const Artefact& artefact(const std::string& name) const = 0;
  // The options of the network that the present one stands for, as its backbone derives them from its graph and values
  // (Backbone::derive): of a search network the genotype that won. Throws Error where the backbone derives nothing.
  virtual Value derive() const = 0;

  // Puts a number among the epoch's metrics.
  virtual void metric(const std::string& name, double value) = 0;
  // Keeps tensors for whoever looks at the run afterwards, in records/NAME.safetensors of its folder.
  virtual void record(const std::string& name, const std::vector<std::pair<std::string, at::Tensor>>& tensors) = 0;
  // A line for whoever watches the run.
  virtual void note(const std::string& text) = 0;
};

}  // namespace espalier
