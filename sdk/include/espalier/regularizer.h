#pragma once

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// Adds a penalty on parameters. In each step add() is called after the gradients of the loss have been added.
class ESPALIER_API Regularizer : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "regularizer";
  // Finds what to work on. It is called before the first step of a stage and again after every edit, because edits move
  // slots.
  virtual void attach(const Graph& graph, Weights& weights) = 0;
  // Adds the gradient of the penalty to the gradients of the weights, and its value to `value`, a float64 scalar on the
  // device of the weights. It must not wait for the device.
  virtual void add(const Graph& graph, Weights& weights, at::Tensor& value) = 0;
};

// The short way to write a regularizer: a scalar of the parameters, which autograd differentiates. The squared l2 norm
// of all weights:
//
//   class SquaredNorm final : public AutogradRegularizer {
//    public:
//     struct Options {
//       double weight = 1e-4;
//       static void declare(Declare<Options>& p) {
//         p("weight", &Options::weight, at_least(0), "Factor of the penalty.");
//       }
//     };
//     explicit SquaredNorm(const Options& options) : o_(options) {}
//     at::Tensor penalty(const Graph& graph, const Weights& weights) override {
//       at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(weights.dtype()).device(weights.device()));
//       for (const ParamId p : Selector("weights").match(graph)) sum = sum + weights[p].square().sum();
//       return o_.weight * sum;
//     }
//
//    private:
//     Options o_;
//   };
//   ESPALIER_PLUGIN("squared_norm", "1.0.0", component<SquaredNorm>("squared_norm", "squared l2 norm of all weights"));
class ESPALIER_API AutogradRegularizer : public Regularizer {
 public:
  // Needs nothing, because penalty() sees the graph each time.
  void attach(const Graph&, Weights&) override {}
  // Differentiates penalty().
  void add(const Graph& graph, Weights& weights, at::Tensor& value) final;
  // Returns the penalty, a tensor of one element that is connected to the parameters by autograd. add() throws Error if
  // it has more elements.
  virtual at::Tensor penalty(const Graph& graph, const Weights& weights) = 0;
};

}  // namespace espalier
