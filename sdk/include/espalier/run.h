#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/batch.h"
#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/random.h"
#include "espalier/value.h"
#include "espalier/weights.h"

namespace espalier {

// What an evaluation of one part of the data found.
struct ESPALIER_API Evaluation {
  // The mean loss over all samples, in evaluation mode, without what only helps training and without penalties.
  double loss = 0;
  // The metrics of the run by name, the leading one first.
  std::vector<std::pair<std::string, double>> metrics{};
  // The leading metric, with the sign changed if smaller values are better: a larger score is always better.
  double score = 0;

  // Returns a metric by its name. Throws Error with the nearest name if there is none.
  double operator[](std::string_view name) const;
};

// Something that a stage found and hands on to later stages and to other runs: a genotype, scores, a table of
// latencies.
struct Artefact {
  Value value;  // what recipes may refer to: a number, a text, a list or a map
  // Tensors beside it, by name; they are copied to the CPU.
  NamedTensors tensors{};
};

// How gradients are added.
struct GradientPass {
  std::string_view loss = "loss";  // that of the recipe, or the name of a scalar output of the graph
  bool statistics = true;          // whether running statistics, such as those of batch norms, move
  // Whether the loss and the leading metric are added to those of the epoch, and the samples counted. A second pass
  // over the same batch, such as that of sharpness-aware minimization, says no.
  bool metrics = true;
};

// What the runner offers to a controller. A controller that removes the weakest filter of each layer, after every
// epoch:
//
//   void epoch_end(Run& run) override {
//     Edits edits;
//     for (const Axis axis : filter_axes(run.graph(), {})) {
//       const std::vector<double> norms = filter_norms(run.graph(), run.weights(), axis);
//       const int64_t weakest = std::ranges::min_element(norms) - norms.begin();
//       edits.push_back(shrink(run.graph(), axis, complement({weakest}, static_cast<int64_t>(norms.size()))));
//     }
//     run.edit(edits);
//   }
//
// References and handles (Axis, ParamId, Edge) hold until the next edit and, at most, until the end of the stage: a
// later stage may build another network.
class ESPALIER_API Run {
 public:
  virtual ~Run();

  // Returns the structure as it is now.
  virtual const Graph& graph() const = 0;
  // Returns the values of the network, with gradients and states. The reference holds until the stage ends, also across
  // edits; tensors that were taken out of it hold until the next edit.
  virtual Weights& weights() = 0;
  // Returns the name of the stage.
  virtual const std::string& stage() const = 0;
  // Returns how many epochs the stage has.
  virtual int64_t epochs() const = 0;
  // Ends the stage with the epoch under way, because its purpose is reached.
  virtual void end_stage() = 0;
  // Returns the number of the epoch under way, from 0.
  virtual int64_t epoch() const = 0;
  // Returns the number of the step under way within its epoch, from 0.
  virtual int64_t step() const = 0;
  // Returns the random key of the present step. Two calls in one step give the same key, so derive a key of your own
  // for each purpose: uniform({n}, 0, 1, run.key().with("my_method.noise")).
  virtual RandomKey key() const = 0;

  // Carries the edits out on the graph, on all Weights and on all states, and writes them to the history. What is to be
  // removed is first set to zero, together with everything that would make it a constant; the logits of test samples
  // are compared before, between and after. Several changes of widths in one call are one pass over the memory, and
  // their positions are those before all of them. Throws EditError, with the axis or node and the reason, if an edit is
  // impossible or changes a function that it must keep; nothing has changed then.
  virtual void edit(const Edits& edits) = 0;
  // Carries out one edit.
  void edit(const Edit& edit) { this->edit(Edits{edit}); }
  // Registers another Weights of the same graph under a name of its own: edits will follow it, and checkpoints will
  // hold it. It is registered for as long as the caller keeps it alive. `optimized`: update() will be called on it, so
  // the optimizers keep states there too.
  virtual void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) = 0;
  // Registers a Weights that is not optimized, such as an average.
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights) { follow(name, weights, false); }

  // Does the ordinary training step: clears the gradients, adds those of the loss and of the regularizers, and updates.
  virtual void train_step(const Batch& batch) = 0;
  // Adds the gradients of a loss to those that there are; this and the next two are the parts of a step, for
  // controllers that compose their own. The forward pass runs in training mode with key(), under autocast if the
  // recipe's precision is bf16.
  virtual void add_gradients(const Batch& batch, Weights& weights, const GradientPass& pass) = 0;
  // Adds the gradients of the recipe's loss, or of a scalar output of the graph.
  void add_gradients(const Batch& batch, Weights& weights, std::string_view loss) {
    add_gradients(batch, weights, GradientPass{.loss = loss});
  }
  // Adds the gradients of the recipe's loss.
  void add_gradients(const Batch& batch, Weights& weights) { add_gradients(batch, weights, GradientPass{}); }
  // Adds the gradients of the stage's regularizers, and their values to the penalty of the epoch's metrics.
  virtual void add_regularizers(Weights& weights) = 0;
  // Clips the gradients of these roles, if the stage has `clip_norm`, and steps the optimizers of parameters of these
  // roles with the learning rate of the schedule. An optimizer for parameters of both roles can only step both: throws
  // InputError otherwise.
  virtual void update(Weights& weights, const std::vector<Role>& roles) = 0;
  // Updates the weights and the architecture parameters.
  void update(Weights& weights) { update(weights, {Role::weight, Role::architecture}); }
  // Returns another batch of "train" or "validation", augmented and in random order, for steps that take several
  // batches: the n-th of this step. A resumed run draws the same. Throws InputError if the recipe holds nothing out for
  // validation.
  virtual Batch draw(std::string_view part, int64_t n) = 0;
  // Returns the first drawn batch of this step.
  Batch draw(std::string_view part) { return draw(part, 0); }
  // Evaluates the network with these values (its own, or others that are followed) on all samples of "test",
  // "validation" or "train", without augmentation. Throws Error if there is no such part.
  virtual Evaluation evaluate(std::string_view part, const Weights& weights) = 0;
  // Evaluates the network with its own values.
  Evaluation evaluate(std::string_view part) { return evaluate(part, weights()); }

  // Returns the recipe's loss for a batch, a scalar that autograd connects to the network's parameters (without
  // regularizers and without what only helps training). It is a pass of evaluation: nothing is drawn at random, the
  // statistics of batch norms stay, and nothing is added to the metrics of the epoch. `observe`, if it is not null, is
  // told what each node computes. Scores look at gradients and activations through it.
  virtual at::Tensor loss(const Batch& batch, const Observer& observe) = 0;

  // Returns the learning rate that a parameter has in the step under way: that of its optimizer, scaled by the
  // schedule. It is 0 if no optimizer updates the parameter.
  virtual double learning_rate(ParamId p) const = 0;
  // Returns how many samples a full training batch has. The last batch of an epoch may have fewer.
  virtual int64_t batch_size() const = 0;
  // Returns whether the last update scaled the gradients down because their norm was above `clip_norm`. It waits for
  // the device.
  virtual bool clipped() const = 0;

  // Hands an artefact on under a name of the present stage. A later stage of the recipe refers to it as STAGE.NAME
  // (`normal: {from: search.genotype}`), another recipe names the run's folder too (`run: ../search`). It is written to
  // artefacts/STAGE.NAME.json (and .safetensors) in the run's folder and kept in checkpoints. Publishing again replaces
  // it. Throws Error if the component does not declare the name by Component::publish, or if the name does not consist
  // of letters, digits, '_' and '-'.
  virtual void publish(const std::string& name, const Artefact& artefact) = 0;
  // Returns what a stage of this run published as "STAGE.NAME". Throws Error with the nearest name if there is none.
  virtual const Artefact& artefact(const std::string& name) const = 0;
  // Returns the options of the network that the present one stands for, as its backbone derives them from graph and
  // values (Backbone::derive). Throws Error if the backbone derives nothing.
  virtual Value derive() const = 0;

  // Puts a number among the metrics of the epoch, in metrics.jsonl and for TensorBoard; in Controller::stage_end, when
  // the epochs are over, among what the stage measured, in summary.json (`measured`).
  virtual void metric(const std::string& name, double value) = 0;
  // Keeps tensors for whoever looks at the run afterwards, in records/NAME.safetensors of its folder.
  virtual void record(const std::string& name, const NamedTensors& tensors) = 0;
  // Prints a line for whoever watches the run.
  virtual void note(const std::string& text) = 0;
};

}  // namespace espalier
