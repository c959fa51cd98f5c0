#pragma once

#include <cmath>
#include <vector>

#include "espalier/operation.h"
#include "espalier/operations.h"

// The SDK's own operations, one file each; registered by the Registry when it is made.
namespace espalier {

std::vector<Component> builtin_operations();

// What can be computed together with a ReLU beside it.
class WithRelu {
 public:
  virtual ~WithRelu() = default;
  // Undefined where that is not possible.
  virtual at::Tensor forward_with_relu(const at::Tensor& x) const = 0;
};

// An operation of whose nodes those with the same input compute the same, so that one of them is enough for a pass: it
// has no parameters and draws nothing. The mixed operations of a search network have dozens of such nodes.
class Repeatable {
 public:
  virtual ~Repeatable() = default;
  // Returns whether another operation computes the same from the same input.
  virtual bool computes_like(const Operation& other) const = 0;
};

Component conv2d_operation();
Component linear_operation();
Component batch_norm_operation();
std::vector<Component> activation_operations();
std::vector<Component> pool_operations();
std::vector<Component> coefficient_operations();
Component flatten_operation();
Component dropout_operation();
Component cross_entropy_operation();
Component layer_norm_operation();
Component softmax_operation();
Component drop_path_operation();
std::vector<Component> elementwise_operations();
Component concat_operation();
Component select_operation();
std::vector<Component> image_operations();
std::vector<Component> token_operations();
Component attention_operation();
Component window_attention_operation();
std::vector<Component> graph_operations();

}  // namespace espalier
