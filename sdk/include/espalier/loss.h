#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/batch.h"
#include "espalier/builder.h"
#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// A trained network that stays as it is, such as a teacher: no edit and no optimizer changes it.
struct FrozenNetwork {
  // Makes it with values that are all zero.
  FrozenNetwork(Graph structure, at::ScalarType dtype, at::Device device)
      : graph(std::move(structure)), weights(graph, dtype, device) {}
  Graph graph;      // its structure
  Weights weights;  // its values, on the device of the run
};

// What a loss is told before the first step of a stage.
struct LossSetup {
  TargetSpec target;  // what is learned
  // How often each class occurs in the training part, int64 [classes] on the CPU; undefined unless the task is
  // classification.
  at::Tensor class_counts;
  at::Device device = at::kCPU;       // where batches are
  at::ScalarType dtype = at::kFloat;  // of the weights
  // The networks that Loss::networks() asked for, in its order.
  std::vector<std::shared_ptr<const FrozenNetwork>> networks;
};

// What training makes small, for the outputs of the network and the targets of the data. Penalties of the weights are
// regularizers. The Huber loss, with the includes left out (`espalier new loss NAME` writes a whole plugin):
//
//   class Huber final : public Loss {
//    public:
//     struct Options {
//       double delta = 1;
//       static void declare(Declare<Options>& p) { p("delta", &Options::delta, above(0), "Where it becomes linear."); }
//     };
//     explicit Huber(const Options& options) : o_(options) {}
//     void check(const TargetSpec& target) const override {
//       if (target.task != task::regression) throw Error("the Huber loss is for regression");
//     }
//     at::Tensor value(const Prediction& p) const override {
//       return at::huber_loss(p.output(), p.batch.target(), at::Reduction::Mean, o_.delta);
//     }
//
//    private:
//     Options o_;
//   };
class ESPALIER_API Loss : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "loss";
  // Returns the outputs of the network that it compares.
  virtual std::vector<std::string> outputs() const { return {"logits"}; }
  // Throws Error if it is not for such a task.
  virtual void check(const TargetSpec& /*target*/) const {}
  // Returns the trained networks that it needs, each the folder of a run (an absolute path) or the name of an earlier
  // stage. `plan` counts their memory and their multiply-accumulates.
  virtual std::vector<std::string> networks() const { return {}; }
  // Is called before the first step of a stage, and again after a resume.
  virtual void begin(const LossSetup& /*setup*/) {}
  // Returns the mean over what counts in the batch: a scalar with gradients. Outputs may be bfloat16 where the recipe
  // says so. In evaluation nothing is recorded for gradients, and what only helps training (label smoothing, a teacher)
  // is left out. It must not wait for the device.
  virtual at::Tensor value(const Prediction& prediction) const = 0;
  // Returns how much the mean of a batch weighs when those of several batches are averaged (an evaluation, accumulated
  // gradients), as a scalar: the sum of the weights, or the number of nodes that the mean is over. Undefined: as many
  // as the batch has samples.
  virtual at::Tensor weight(const Batch& /*batch*/) const { return {}; }
};

// Returns the spec of the loss that a task has where the recipe names none: cross_entropy, mse or bce. Throws Error for
// a task that has none.
ESPALIER_API Value default_loss(const TargetSpec& target);

}  // namespace espalier
