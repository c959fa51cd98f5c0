#pragma once

#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// The learning rate with which an update changed each parameter: that of its optimizer, scaled by the schedule. It is 0
// for buffers and for parameters that the update left alone.
class ESPALIER_API LearningRates {
 public:
  // Takes one rate for each parameter of the graph, by its id.
  explicit LearningRates(std::vector<double> by_parameter) : by_parameter_(std::move(by_parameter)) {}
  // Returns the rate of a parameter.
  double operator[](ParamId p) const { return by_parameter_[static_cast<size_t>(p.id)]; }

 private:
  std::vector<double> by_parameter_;
};

// Adds a penalty on parameters. It acts through its gradient: in each step add() is called after the gradients of the
// loss have been added. Or it acts through its proximal operator, in after_update(), or through both. The proximal step
// of weight * |w|_1 (soft thresholding; Parikh and Boyd 2014, section 6.5.2):
//
//   void add(const Graph&, Weights& weights, at::Tensor& value) override {}
//   void after_update(const Graph& graph, Weights& weights, const LearningRates& rates) override {
//     const c10::NoGradGuard no_grad;
//     for (const ParamId p : on.match(graph)) {
//       at::Tensor w = weights[p].detach();
//       w.copy_(w.sign() * (w.abs() - rates[p] * weight).clamp_min(0));
//     }
//   }
class ESPALIER_API Regularizer : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "regularizer";
  // Finds what to work on, and registers states. It is called before the first step of a stage and again after every
  // edit, because edits move slots: with the network's Weights and then with each other that an update steps (the copy
  // of `rarts`), which have the same layout.
  virtual void attach(const Graph& graph, Weights& weights) = 0;
  // Adds the gradient of the penalty to the gradients of the weights, and its value to `value`, a float64 scalar on the
  // device of the weights. It must not wait for the device.
  virtual void add(const Graph& graph, Weights& weights, at::Tensor& value) = 0;
  // Changes the values after an update, as a proximal step does, with the learning rate that each parameter had. It is
  // called after every update, with the Weights that were updated, without autograd. It must not wait for the device.
  // Who writes through raw pointers calls Arena::touch() afterwards.
  virtual void after_update(const Graph& /*graph*/, Weights& /*weights*/, const LearningRates& /*rates*/) {}
  // Changes the values of the network once more when the epochs of a stage are over, before Controller::stage_end():
  // what was only near a sparse solution until then becomes it. It is called without autograd.
  virtual void stage_end(const Graph& /*graph*/, Weights& /*weights*/) {}
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
