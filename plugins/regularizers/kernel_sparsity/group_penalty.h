#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <espalier/error.h>
#include <espalier/regularizer.h>

#include "chain_tables.h"
#include "kernel_passes.h"
#include "kernel_sparsity_cuda.h"

namespace espalier {

// What both regularizers of paper 001 have in common: groups of a filter's weights, nested in each other, of which the
// norms are summed. The gradient of a group is w / norm, and zero where the norm is zero.
class GroupPenalty : public Regularizer {
 public:
  struct Settings {
    std::string name;  // of the component, for its states
    double weight = 0;
    Selector on;
    std::string norm, form, solver;
    bool split = false;
    bool number = false;  // of kernels rather than their sizes
    const KernelShrinkage* shrinkage = nullptr;
  };

  void attach(const Graph& graph, Weights& weights) override {
    tables_.build(graph, weights, s_.on, s_.shrinkage, chain_norm(s_.norm));
    const at::TensorOptions doubles = at::TensorOptions().dtype(at::kDouble).device(weights.device());
    values_ = at::zeros({tables_.rows()}, doubles);
    if (is_coupled()) {
      pieces_ = at::zeros({tables_.rows(), max_groups}, doubles);
      sums_ = at::zeros({tables_.rows()}, doubles);
      wholes_ = at::zeros({tables_.rows()}, doubles);
    }
    if (s_.split) add_states(graph, weights);
  }

  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    if (tables_.rows() == 0) return;
    const bool kernels = s_.solver == "subgradient" && !s_.split;
    penalize(weights, weights.bank(Role::weight).values.flat(), weights.bank(Role::weight).gradients.flat(), kernels,
             s_.norm == "batch_norm", &value);
    weights.bank(Role::weight).gradients.touch();
  }

  void after_update(const Graph& graph, Weights& weights, const LearningRates& rates) override {
    if (tables_.rows() == 0) return;
    if (s_.split) {
      split_step(graph, weights, rates);
    } else if (s_.solver == "proximal") {
      proximal_step(weights, rates);
    } else {
      return;
    }
    weights.bank(Role::weight).values.touch();
  }

 protected:
  // Throws Error if settings do not go together.
  explicit GroupPenalty(Settings settings) : s_(std::move(settings)) {
    const bool proximal = s_.solver == "proximal";
    if (s_.split && proximal)
      throw Error(
          "'split' is a way of subgradients, and 'solver: proximal' reaches exact zeros without it: leave one out");
    if (proximal && s_.form == "complexity") {
      throw Error(
          "'form: complexity' is no sum over kernels but one of products of layers, so that it has no proximal step: "
          "take 'solver: subgradient'");
    }
    if (proximal && s_.form == "squared" && s_.norm == "linf")
      throw Error(
          "'form: squared' with 'norm: linf' has no proximal step here: take another norm, or 'solver: subgradient'");
  }

  const ChainTables& tables() const { return tables_; }

 private:
  // Whether the penalty of a filter hangs on other filters, too: (34), and (32), which squares the sum of a layer.
  bool is_coupled() const { return s_.form == "complexity" || (s_.form == "squared" && s_.number); }

  ChainTask task() const {
    return {.weight = s_.weight, .largest = s_.norm == "linf", .squared = s_.form == "squared" && !s_.number};
  }

  template <class T>
  ChainArenas<T> arenas_of(Weights& weights, const at::Tensor& w, const at::Tensor& g, bool scales) const {
    ChainArenas<T> a;
    a.w = w.const_data_ptr<T>();
    a.g = g.data_ptr<T>();
    a.scales = weights.bank(Role::weight).values.flat().const_data_ptr<T>();
    if (s_.norm == "batch_norm") a.variances = weights.bank(Role::buffer).values.flat().const_data_ptr<T>();
    if (scales) a.scale_gradients = weights.bank(Role::weight).gradients.flat().data_ptr<T>();
    return a;
  }

  template <class T>
  void run(const Weights& weights, const ChainArenas<T>& arenas, const ChainTask& task) const {
    if (weights.device().is_cuda()) {
      launch_chains(tables_.chains(), arenas, task, tables_.rows(), weights.device().index());
    } else {
      chain_pass(tables_.chains(), arenas, task, tables_.rows(), tables_.grain());
    }
  }

  // Adds the gradient at the kernels w to g (kernels) and to the batch norms' scales (scales), and the penalty.
  void penalize(Weights& weights, const at::Tensor& w, const at::Tensor& g, bool kernels, bool scales,
                at::Tensor* value) {
    if (weights.dtype() == at::kDouble) {
      penalize_as<double>(weights, w, g, kernels, scales, value);
    } else {
      penalize_as<float>(weights, w, g, kernels, scales, value);
    }
  }

  template <class T>
  void penalize_as(Weights& weights, const at::Tensor& w, const at::Tensor& g, bool kernels, bool scales,
                   at::Tensor* value) {
    ChainArenas<T> a = arenas_of<T>(weights, w, g, scales);
    ChainTask t = task();
    t.adds = kernels || scales;
    t.kernels = kernels;
    if (!is_coupled()) {
      a.values = values_.data_ptr<double>();
      run(weights, a, t);
      if (value) add_values(weights, *value);
      return;
    }
    measure<T>(weights, a);
    const Coupling c = s_.form == "complexity" ? complexity() : squares_of_layers();
    if (value) value->add_(c.value);
    if (!t.adds) return;
    a.of_sums = c.of_sums.const_data_ptr<double>();
    if (c.of_wholes.defined()) a.of_wholes = c.of_wholes.const_data_ptr<double>();
    a.sums = a.wholes = nullptr;
    t.measures = false;
    run(weights, a, t);
  }

  template <class T>
  void measure(const Weights& weights, ChainArenas<T>& a) {
    a.pieces = pieces_.data_ptr<double>();
    a.sums = sums_.data_ptr<double>();
    a.wholes = wholes_.data_ptr<double>();
    ChainTask t = task();
    t.adds = false;
    run(weights, a, t);
  }

  void add_values(const Weights& weights, at::Tensor& value) const {
    if (weights.device().is_cuda()) {
      value.add_(values_.sum());
      return;
    }
    // In order, whatever the number of threads.
    const auto* values = values_.const_data_ptr<double>();
    double total = 0;
    for (int64_t r = 0; r < tables_.rows(); ++r) total += values[r];
    *value.data_ptr<double>() += total;
  }

  // The penalty, and its derivatives by `sums` and `wholes` of each filter (undefined: 0).
  struct Coupling {
    at::Tensor value, of_sums, of_wholes;
  };

  // (32): the sum of squares of the layers' relaxed widths.
  Coupling squares_of_layers() const {
    Coupling c{at::zeros({}, sums_.options()), at::empty(sums_.sizes(), sums_.options()), {}};
    for (const ChainLayer& l : tables_.layers()) {
      const at::Tensor width = sums_.narrow(0, l.first, l.count).sum();
      c.value.add_(width.square(), s_.weight);
      c.of_sums.narrow(0, l.first, l.count).copy_((2 * s_.weight * width).expand({l.count}));
    }
    return c;
  }

  // (34): r_i c_i d'_(i-1) times the sum of s'_ij^2, or, of the number of kernels, of s_ij^2 times the kernels' norms.
  // d' of a width that several layers make (a residual stream) takes of each channel the root of the sum of squares of
  // their norms.
  Coupling complexity() const {
    Coupling c{at::zeros({}, sums_.options()), at::zeros_like(sums_), at::zeros_like(sums_)};
    std::map<Axis, at::Tensor> squares, by_width;
    for (const ChainLayer& l : tables_.layers()) {
      const at::Tensor own = wholes_.narrow(0, l.first, l.count).square();
      at::Tensor& of_axis = squares[l.axis];
      of_axis = of_axis.defined() ? of_axis + own : own;
    }
    std::map<Axis, at::Tensor> widths;
    for (const auto& [axis, s] : squares) widths[axis] = s.sqrt().sum();
    for (const ChainLayer& l : tables_.layers()) {
      const at::Tensor sums = sums_.narrow(0, l.first, l.count);
      const at::Tensor sizes = s_.number ? sums * tables_.areas().narrow(0, l.first, l.count) : sums.square();
      const at::Tensor total = sizes.sum();
      at::Tensor input = at::zeros({}, sums_.options()) + l.constant;
      for (const auto& [axis, times] : l.relaxed) input = input + times * widths.at(axis);
      const double factor = s_.weight * l.positions;
      c.value.add_(input * total, factor);
      const at::Tensor slope = s_.number ? tables_.areas().narrow(0, l.first, l.count) : 2 * sums;
      c.of_sums.narrow(0, l.first, l.count).add_(slope * input, factor);
      for (const auto& [axis, times] : l.relaxed) {
        at::Tensor& by = by_width[axis];
        by = (by.defined() ? by : at::zeros({}, sums_.options())) + factor * times * total;
      }
    }
    for (const ChainLayer& l : tables_.layers()) {
      const auto by = by_width.find(l.axis);
      if (by == by_width.end()) continue;
      const at::Tensor norms = squares.at(l.axis).sqrt(), own = wholes_.narrow(0, l.first, l.count);
      c.of_wholes.narrow(0, l.first, l.count).add_(by->second * at::where(norms > 0, own / norms, 0));
    }
    return c;
  }

  // [families], where the weights are.
  at::Tensor rates_of(const Weights& weights, const LearningRates& rates) const {
    at::Tensor all = at::empty({static_cast<int64_t>(tables_.family_parameters().size())}, at::kDouble);
    auto* to = all.data_ptr<double>();
    for (const ParamId p : tables_.family_parameters()) *to++ = rates[p];
    return all.to(weights.device());
  }

  void proximal_step(Weights& weights, const LearningRates& rates) {
    if (weights.dtype() == at::kDouble) {
      proximal_step_as<double>(weights, rates);
    } else {
      proximal_step_as<float>(weights, rates);
    }
  }

  template <class T>
  void proximal_step_as(Weights& weights, const LearningRates& rates) {
    const at::Tensor& flat = weights.bank(Role::weight).values.flat();
    ChainArenas<T> a = arenas_of<T>(weights, flat, weights.bank(Role::weight).gradients.flat(), false);
    T* w = flat.data_ptr<T>();
    const bool gpu = weights.device().is_cuda();
    if (!is_coupled()) {
      const at::Tensor all = rates_of(weights, rates);
      const auto* by = all.const_data_ptr<double>();
      if (gpu) {
        launch_chain_proximal(tables_.chains(), w, a.scales, a.variances, by, task(), tables_.rows(),
                              weights.device().index());
      } else {
        chain_proximal_pass(tables_.chains(), w, a.scales, a.variances, by, task(), tables_.rows(), tables_.grain());
      }
      return;
    }
    measure<T>(weights, a);
    const at::Tensor shrinks = shrinkage_of_squares(rates);
    const auto* by = shrinks.const_data_ptr<double>();
    if (gpu) {
      launch_chain_scale(tables_.chains(), w, by, tables_.rows(), weights.device().index());
    } else {
      chain_scale_pass(tables_.chains(), w, by, tables_.rows(), tables_.grain());
    }
  }

  // The proximal step of (32) with t = rate * weight: that of the plain sum of norms b_j ||k_j|| with the step 2 t d'
  // of the width d' that is left. Sorted by ||k_j|| / b_j, the filters that stay are the first ones, and with the first
  // k of them the step would be 2 t sum b ||k|| / (1 + 2 t sum b^2), which is largest for the right k.
  at::Tensor shrinkage_of_squares(const LearningRates& rates) const {
    at::Tensor all = at::empty(sums_.sizes(), sums_.options());
    const at::Tensor norms = pieces_.select(1, 0).sqrt();
    for (const ChainLayer& l : tables_.layers()) {
      const double t = rates[l.parameter] * s_.weight;
      const at::Tensor n = norms.narrow(0, l.first, l.count);
      const at::Tensor b = at::where(n > 0, sums_.narrow(0, l.first, l.count) / n, 0);
      const auto [ratio, order] = at::where(b > 0, n / b, 0).sort(0, /*descending=*/true);
      const at::Tensor sorted = b.index_select(0, order);
      const at::Tensor step =
          ((2 * t * (sorted * n.index_select(0, order)).cumsum(0)) / (1 + 2 * t * sorted.square().cumsum(0))).max();
      all.narrow(0, l.first, l.count).copy_(at::where(b > 0, (1 - step * b / n).clamp_min(0), 1));
    }
    return all;
  }

  std::string plus() const { return s_.name + ".plus"; }
  std::string minus() const { return s_.name + ".minus"; }
  void add_states(const Graph& graph, Weights& weights) const {
    for (const std::string& name : {plus(), minus()}) weights.add_state(graph, {.name = name});
  }

  // k = k+ - k-, neither of them negative (001-A13; Bottou 2012, section 5.2, for l1). The optimizer has moved k, and
  // each half takes half of that; then both take a step down the gradient of the penalty of k+ + k-, and what would be
  // negative becomes zero. Where one half is zero already, k itself shrinks; where both become zero, it is exactly
  // zero. Halves that never were (new slices) begin with the parts of k.
  void split_step(const Graph& graph, Weights& weights, const LearningRates& rates) {
    if (!weights.has_state(plus())) add_states(graph, weights);
    Bank& bank = weights.bank(Role::weight);
    const at::Tensor& flat = bank.values.flat();
    Arena& first = bank.states.at(plus());
    Arena& second = bank.states.at(minus());
    at::Tensor sizes = at::zeros_like(flat), slopes = at::zeros_like(flat);
    std::vector<ParamId> layers;
    for (const ChainLayer& l : tables_.layers()) {
      if (layers.empty() || layers.back() != l.parameter) layers.push_back(l.parameter);
    }
    const auto of = [&](const at::Tensor& arena, ParamId p) {
      return arena.narrow(0, weights.slot(p).offset, weights.slot(p).numel);
    };
    for (const ParamId p : layers) {
      at::Tensor a = of(first.flat(), p), b = of(second.flat(), p);
      const at::Tensor k = of(flat, p);
      a.copy_(at::maximum((a + b + k) / 2, k.clamp_min(0)));
      b.copy_(a - k);
      of(sizes, p).copy_(a + b);
    }
    penalize(weights, sizes, slopes, true, false, nullptr);
    for (const ParamId p : layers) {
      at::Tensor a = of(first.flat(), p), b = of(second.flat(), p), k = of(flat, p);
      const at::Tensor step = rates[p] * of(slopes, p);
      a.copy_((a - step).clamp_min(0));
      b.copy_((b - step).clamp_min(0));
      k.copy_(at::where((a > 0).logical_and(b > 0), k, a - b));
    }
    first.touch();
    second.touch();
  }

  Settings s_;
  ChainTables tables_;
  at::Tensor values_, pieces_, sums_, wholes_;
};

}  // namespace espalier
