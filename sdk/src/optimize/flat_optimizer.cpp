#include "espalier/flat_optimizer.h"

#include <algorithm>

#include "espalier/error.h"

namespace espalier {

const Selector& FlatOptimizer::decayed() const {
  static const Selector everything;
  return everything;
}

void FlatOptimizer::check(const Graph& graph, const Selector& on) const {
  if (weight_decay() == 0) return;
  const std::vector<ParamId> with_decay = decayed().match(graph);
  std::vector<ParamId> both;
  for (const ParamId p : on.match(graph)) {
    if (std::ranges::find(with_decay, p) != with_decay.end()) both.push_back(p);
  }
  require_may_decay(graph, both, "'weight_decay'");
}

void FlatOptimizer::attach(const Graph& graph, Weights& weights, const Selector& on, const std::string& label) {
  check(graph, on);
  label_ = label;
  for (const std::string& s : states()) weights.add_state(graph, {.name = state_name(s)});
  std::vector<Part>& parts = parts_[&weights];
  parts.clear();
  for (const Role role : {Role::weight, Role::architecture}) {
    Part part;
    part.bank = &weights.bank(role);
    part.spans = spans_of(graph, weights, role, on, weight_decay(), decayed());
    if (part.spans.empty()) continue;
    if (weights.device().is_cuda()) part.table = span_table(part.spans, part.bank->values);
    parts.push_back(std::move(part));
  }
}

void FlatOptimizer::step(Weights& weights, double learning_rate) {
  const auto found = parts_.find(&weights);
  if (found == parts_.end()) throw Error("an optimizer's step on weights that it is not attached to");
  begin_step(weights, learning_rate);
  for (Part& part : found->second) {
    update(weights, part);
    part.bank->values.touch();
    for (const std::string& s : states()) arena(part, state_name(s)).touch();
  }
}

}  // namespace espalier
