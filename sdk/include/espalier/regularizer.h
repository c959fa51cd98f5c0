#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// A penalty on parameters. Each step, after the gradient of the loss: add().
class ESPALIER_API Regularizer : public Object {
 public:
  static constexpr const char* kind = "regularizer";
  // Called before the first step of a stage and after every edit: find here what to work on (slots move with edits).
  virtual void attach(const Graph& graph, Weights& weights) = 0;
  // Adds the penalty's gradient to the gradients and its value to `value` (float64 scalar on the weights' device). Must
  // not synchronise with the device.
  virtual void add(const Graph& graph, Weights& weights, at::Tensor& value) = 0;
};

// The short way: a scalar of the parameters, differentiated by autograd.
class ESPALIER_API AutogradRegularizer : public Regularizer {
 public:
  void attach(const Graph&, Weights&) override {}
  void add(const Graph& graph, Weights& weights, at::Tensor& value) final;
  virtual at::Tensor penalty(const Graph& graph, const Weights& weights) = 0;
};

}  // namespace espalier
