#pragma once

#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// The learning rate with which an update changed each parameter: that of its optimizer, scaled by the schedule; 0 for
// parameters that the update left alone and for buffers.
class ESPALIER_API LearningRates {
 public:
  explicit LearningRates(std::vector<double> by_parameter) : by_parameter_(std::move(by_parameter)) {}
  double operator[](ParamId p) const { return by_parameter_[static_cast<size_t>(p.id)]; }

 private:
  std::vector<double> by_parameter_;
};

// A penalty on parameters. It acts through its gradient, in add(), or through its proximal operator, in after_update(),
// or through both. Example, the proximal step of weight * |w|_1 on the parameters that `on` selects (soft thresholding;
// Parikh and Boyd 2014, section 6.5.2):
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
  static constexpr const char* kind = "regularizer";
  // Called before the first step of a stage and after every edit: find here what to work on (slots move with edits).
  virtual void attach(const Graph& graph, Weights& weights) = 0;
  // Adds the penalty's gradient to the gradients and its value to `value` (float64 scalar on the weights' device). Must
  // not synchronise with the device.
  virtual void add(const Graph& graph, Weights& weights, at::Tensor& value) = 0;
  // Called after every update by the optimizers, without autograd: changes the values, as a proximal step does, with
  // the learning rate that each parameter had. It is called for the Weights that were updated. Must not synchronise
  // with the device. Whoever writes through raw pointers calls Arena::touch().
  virtual void after_update(const Graph& /*graph*/, Weights& /*weights*/, const LearningRates& /*rates*/) {}
};

// The short way: a scalar of the parameters, differentiated by autograd.
class ESPALIER_API AutogradRegularizer : public Regularizer {
 public:
  void attach(const Graph&, Weights&) override {}
  void add(const Graph& graph, Weights& weights, at::Tensor& value) final;
  virtual at::Tensor penalty(const Graph& graph, const Weights& weights) = 0;
};

}  // namespace espalier
