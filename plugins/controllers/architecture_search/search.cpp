#include "search.h"

#include <algorithm>
#include <map>

#include <ATen/TensorOperators.h>

#include <espalier/error.h>

#include "channel_gates.h"
#include "genotype.h"
#include "hessian.h"

namespace espalier {

namespace {

void check_loss(const Graph& graph, const std::string& loss) {
  if (loss == recipe_loss) return;
  const Port* output = graph.find_output(loss);
  if (!output) {
    std::vector<std::string> names{recipe_loss};
    for (const Port& port : graph.outputs()) names.push_back(port.name);
    throw Error("the network has no output '" + loss + "' that could be a loss" + suggestion(loss, names));
  }
  if (!graph.sizes(graph[output->edge].shape).empty())
    throw Error("the output '" + loss + "' of the network is no single number, so it is no loss");
}

}  // namespace

Edits Search::begin(const Graph& graph) const {
  return channel_gates(graph, search_.gates);
}

void Search::check(const Graph& graph) const {
  const auto is_architecture = [](const Parameter& p) { return p.role == Role::architecture; };
  if (std::ranges::none_of(graph.parameters(), is_architecture)) {
    throw Error(
        "there is nothing to search: the network has no architecture parameters. Search networks have them "
        "(darts_search, nasbench201_search), and for a search of widths the option 'gates' makes some: `gates: "
        "norms`");
  }
  for (const std::string& loss : losses()) check_loss(graph, loss);
}

void Search::see_what_is_derived(const Run& run) {
  try {
    derives_ = skip_ratio(run.derive()).has_value();
  } catch (const Error&) {
    // The backbone derives nothing: gates and models of other kinds are searched, too.
    derives_ = false;
    if (search_.stop_at_skip_ratio) throw;
  }
  if (search_.stop_at_skip_ratio && !derives_)
    throw Error("'stop_at_skip_ratio' has no effect: the network that is derived from this one names no operations");
}

void Search::stage_begin(Run& run) {
  check(run.graph());
  see_what_is_derived(run);
  if (search_.hessian_every > 0) run.draw("validation");  // throws if nothing is held out
}

void Search::resume(Run& run, const Value&) {
  see_what_is_derived(run);
}

void Search::measure(Run& run) {
  watch(run, run.weights(), "w");
  if (derives_) give_skip_ratios(run, run.derive());
}

void Search::measure_hessian(Run& run) const {
  run.metric("hessian_eigenvalue", architecture_eigenvalue(run, run.draw("validation")));
}

void Search::epoch_end(Run& run) {
  measure(run);
  if (search_.hessian_every > 0 && (run.epoch() + 1) % search_.hessian_every == 0) measure_hessian(run);
  if (!search_.stop_at_skip_ratio || run.epoch() + 1 == run.epochs()) return;
  const double ratio = skip_ratio(run.derive()).value_or(0);
  if (ratio < *search_.stop_at_skip_ratio) return;
  run.note("the search has collapsed and ends: " + percent(ratio) +
           " of the operations of the derived network are skip_connect (stop_at_skip_ratio)");
  run.end_stage();
}

void Search::stage_end(Run& run) {
  measure(run);
  if (search_.hessian_every > 0) measure_hessian(run);
  if (derives_) publish_genotype(run, run.derive());
}

void Search::pass(Run& run, const Batch& batch, Weights& weights, const std::string& loss, Role role) {
  const GradientsOf only(weights, role);
  run.add_gradients(batch, weights, loss);
}

void Search::update_weights(Run& run, const Batch& batch) const {
  Weights& w = run.weights();
  w.zero_gradients();
  pass(run, batch, w, train_loss(), Role::weight);
  run.add_regularizers(w);
  run.update(w, {Role::weight});
}

void Search::update_architecture(Run& run) {
  run.add_regularizers(run.weights());
  run.update(run.weights(), {Role::architecture});
}

void Search::watch(Run& run, const Weights& weights, const std::string& letter) const {
  if (search_.watch.empty()) return;
  std::map<std::string, std::vector<ParamId>> named;
  for (const ParamId p : search_.watch.match(run.graph()))
    named[run.graph()[p].role == Role::architecture ? "alpha" : letter].push_back(p);
  for (const auto& [symbol, parameters] : named) {
    for (const ParamId p : parameters) {
      std::string name = symbol;
      if (parameters.size() > 1) name.append(".").append(run.graph()[p].name);
      const at::Tensor values = weights[p].detach().to(at::kCPU, at::kDouble).contiguous().view(-1);
      const auto* x = values.const_data_ptr<double>();
      if (values.numel() == 1) run.metric(name, x[0]);
      for (int64_t i = 0; values.numel() > 1 && i < values.numel(); ++i)
        run.metric(std::string(name).append(".").append(std::to_string(i)), x[i]);
    }
  }
}

}  // namespace espalier
