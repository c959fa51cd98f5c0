#include "component_lasso.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <espalier/operation.h>

#include "competition.h"

namespace espalier {

namespace {

at::Tensor positions(const ComponentPart& part, const at::Tensor& w) {
  return at::tensor(part.positions, at::kLong).to(w.device());
}

}  // namespace

void GroupLasso::Options::declare(Declare<Options>& p) {
  p("weight", &Options::weight, at_least(0), "Factor lambda of the norms.");
  p("groups", &Options::groups, one_of({"blocks", "branches", "connections"}),
    "What the components are, as for the controller `sparsify`.");
  p("on", &Options::on, "Names of groups, as for the controller `sparsify`. Left out: all.");
  p("first_block", &Options::first_block, "Whether blocks that change the width or the size count, too.");
  p("by_size", &Options::by_size,
    "Whether the norm of a component counts as often as the square root of the number of its weights says.");
}

GroupLasso::GroupLasso(Options options) : o_(std::move(options)) {}

void GroupLasso::attach(const Graph& graph, Weights&) {
  components_.clear();
  for (ComponentGroup& g : component_groups(graph, {group_kind(o_.groups), o_.on, o_.first_block}))
    components_.insert(components_.end(), g.components.begin(), g.components.end());
}

double GroupLasso::factor(const GroupComponent& c) const {
  return o_.weight * (o_.by_size ? std::sqrt(static_cast<double>(c.weights)) : 1);
}

void GroupLasso::add(const Graph&, Weights& weights, at::Tensor& value) {
  for (const GroupComponent& c : components_) value.add_(square_of(c, weights).sqrt(), factor(c));
}

void GroupLasso::after_update(const Graph&, Weights& weights, const LearningRates& rates) {
  for (const GroupComponent& c : components_) {
    double rate = 0;
    for (const ComponentPart& part : c.parts) rate = std::max(rate, rates[part.parameter]);
    if (rate == 0) continue;
    const at::Tensor norm = square_of(c, weights).sqrt();
    const at::Tensor scale = at::where(norm.gt(0), (1 - rate * factor(c) / norm).clamp_min(0), 0.0);
    for (const ComponentPart& part : c.parts) {
      at::Tensor w = weights[part.parameter].detach();
      const at::Tensor s = scale.to(w.scalar_type());
      if (part.dimension < 0) {
        w.mul_(s);
      } else {
        const at::Tensor at = positions(part, w);
        w.index_copy_(part.dimension, at, w.index_select(part.dimension, at) * s);
      }
    }
  }
}

void ExclusiveLasso::Options::declare(Declare<Options>& p) {
  p("weight", &Options::weight,
    "Factor lambda of half the squared sum of each group; one number, or one for each selector of the coefficients.");
}

void ExclusiveLasso::attach(const Graph& graph, Weights&) {
  groups_.clear();
  for (const Node& n : graph.nodes()) {
    if (!dynamic_cast<const Competing*>(n.op.get())) continue;
    if (const auto weight = value_for(o_.weight, graph, n.parameters.front()))
      groups_.push_back({n.parameters.front(), *weight});
  }
}

void ExclusiveLasso::add(const Graph&, Weights& weights, at::Tensor& value) {
  for (const Group& g : groups_) {
    const at::Tensor size = weights[g.alpha].detach().abs();
    if (size.dim() == 1) {
      value.add_(size.sum(at::kDouble).square(), g.weight / 2);
    } else {
      for (const int64_t along : {1, 0}) value.add_(size.sum(along, false, at::kDouble).square().sum(), g.weight / 2);
    }
  }
}

void ExclusiveLasso::after_update(const Graph&, Weights& weights, const LearningRates& rates) {
  for (const Group& g : groups_) {
    if (rates[g.alpha] == 0) continue;
    at::Tensor a = weights[g.alpha].detach();
    for (int64_t along = a.dim() - 1; along >= 0; --along) {
      const at::Tensor threshold = a.abs().sum(along, /*keepdim=*/true) * (rates[g.alpha] * g.weight);
      a.copy_(a.sign() * (a.abs() - threshold).clamp_min(0));
    }
  }
}

}  // namespace espalier
