#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"
#include "espalier/shape.h"

namespace espalier {

// Tensors with their names, in order.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// Returns the tensor of this name, or null.
ESPALIER_API const at::Tensor* find_tensor(const NamedTensors& tensors, std::string_view name);
// Returns the tensor of this name. Throws Error with the names that there are; `what` says what they are: "input".
ESPALIER_API const at::Tensor& tensor_at(const NamedTensors& tensors, std::string_view name, std::string_view what);

// What the name of a tensor ends with that says where the rows of each sample begin in another one: see Batch::targets.
inline constexpr char offsets_suffix[] = ".offsets";

// One batch, on the device of the run: augmented and normalised samples with what is to be learned of them.
struct Batch {
  // What the network reads, by the names of its inputs; the first is called "input": [batch, channels, height, width]
  // in channels_last memory format for images, [batch, features] for vectors, [batch, nodes, features] for graphs.
  // Floating point of the weights' dtype. Images that differ in size are padded with zeros at the right and at the
  // bottom (DatasetInfo::size_multiple), so height and width differ from batch to batch. Data sets with several inputs
  // add others, such as "adjacency" [batch, nodes, nodes].
  NamedTensors inputs;
  // What losses and metrics compare with. The first is called "target", and the task says what it holds (TargetSpec):
  //   classification  class numbers, int64 [batch], or [batch, nodes] if each node of a graph has a class; -100 does
  //                   not count. Once labels were mixed: probabilities, float32 [batch, classes].
  //   regression      values, [batch, outputs], of the weights' dtype
  //   multilabel      1 for each label that a sample has, else 0: [batch, outputs], of the weights' dtype
  // Others may follow. Where the samples have different numbers of rows (boxes, say), the rows of all samples stand one
  // below the other under NAME, and NAME.offsets, int64 [batch + 1], says where each sample's begin.
  NamedTensors targets;
  // How many samples the batch has in all processes that train together, if each of them has a part of it; 0 if this
  // process has the whole batch, as in ordinary training.
  int64_t whole = 0;

  // Returns how many samples it has in this process.
  int64_t size() const { return inputs.front().second.size(0); }
  // Returns an input by its name. Throws Error if there is none.
  const at::Tensor& input(std::string_view name = "input") const { return tensor_at(inputs, name, "input"); }
  // Returns a target by its name. Throws Error if there is none.
  const at::Tensor& target(std::string_view name = "target") const { return tensor_at(targets, name, "target"); }
};

// Is told what a node of a network computes: the edge, and the tensor with the batch first, connected by autograd where
// gradients are recorded. It may keep the tensor, and must not change it.
using Observer = std::function<void(Edge edge, const at::Tensor& value)>;

// What a network made of a batch: losses and metrics look at it.
struct Prediction {
  const NamedTensors& outputs;  // of the network, by their names: "logits"
  const Batch& batch;           // the batch
  bool training = false;        // whether it comes from a training step

  // Returns an output by its name. Throws Error if there is none.
  const at::Tensor& output(std::string_view name = "logits") const { return tensor_at(outputs, name, "output"); }
};

}  // namespace espalier
