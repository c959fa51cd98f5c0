#include "train/report.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <c10/core/GradMode.h>

#include "espalier/backbone.h"
#include "espalier/error.h"
#include "espalier/operation.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

std::string change(int64_t before, int64_t after) {
  return before == after ? count_text(after) : count_text(before) + " → " + count_text(after);
}

std::string share(int64_t after, int64_t before) {
  return before == 0 ? "" : fixed(100.0 * static_cast<double>(after) / static_cast<double>(before), 1) + " %";
}

}  // namespace

double base_macs(const Recipe& recipe, const DatasetInfo& info, const Graph& first) {
  if (recipe.base.is_null()) return static_cast<double>(first.macs());
  if (const Value* macs = recipe.base.find("macs")) return macs->as_double();
  return static_cast<double>(Registry::instance().create<Backbone>(recipe.base)->build(info.input, info.target).macs());
}

double training_before(const std::filesystem::path& run) {
  const std::optional<Summary> summary = std::filesystem::is_directory(run) ? Summary::read(run) : std::nullopt;
  if (summary && summary->result && summary->result->train_macs) return *summary->result->train_macs;
  throw InputError(run.string(),
                   "does not say what its training took, which 'with_start' of 'base' asks for: it is not the folder "
                   "of a run that ended, or an older program made it. Make that run again, or leave 'with_start' out");
}

double sparsity_of(const Graph& first, const Graph& last, const Weights& weights) {
  constexpr double least = 1e-3;
  const c10::NoGradGuard no_grad;
  int64_t all = 0, living = 0;
  for (const Parameter& p : first.parameters()) {
    if (p.kind != "weight" || p.shape.size() < 2 || !p.input[1]) continue;
    all += first.size(p.shape[1]);
    for (size_t i = 0; i < last.parameters().size(); ++i) {
      if (last.parameters()[i].name != p.name) continue;
      const at::Tensor w = weights[{static_cast<int32_t>(i)}].detach();
      living += w.transpose(0, 1).flatten(1).abs().amax(1).ge(least).sum().item<int64_t>();
    }
  }
  return all > 0 ? 1 - static_cast<double>(living) / static_cast<double>(all) : 0;
}

std::string before_and_after(const Graph& first, const Graph& last) {
  std::vector<std::vector<std::string>> rows{{"layer", "width", "params", "MACs", "of MACs"}};
  for (const Node& n : first.nodes()) {
    if (n.parameters.empty()) continue;
    const Node* m = nullptr;
    for (const Node& candidate : last.nodes()) {
      if (candidate.name == n.name) m = &candidate;
    }
    if (!m) {
      rows.push_back({n.name, "removed", change(first.parameter_count(n), 0), change(first.macs(n), 0), ""});
      continue;
    }
    const Shape& x = first[n.outputs[0]].shape;
    const Shape& y = last[m->outputs[0]].shape;
    rows.push_back(
        {n.name, change(first.size(x[0]), last.size(y[0])), change(first.parameter_count(n), last.parameter_count(*m)),
         first.macs(n) == 0 ? "" : change(first.macs(n), last.macs(*m)), share(last.macs(*m), first.macs(n))});
  }
  for (const Node& n : last.nodes()) {
    if (n.parameters.empty() || std::ranges::find(first.nodes(), n.name, &Node::name) != first.nodes().end()) continue;
    rows.push_back(
        {n.name, "new", change(0, last.parameter_count(n)), last.macs(n) == 0 ? "" : change(0, last.macs(n)), ""});
  }
  rows.push_back({"network", "", change(first.parameter_count(), last.parameter_count()),
                  change(first.macs(), last.macs()), share(last.macs(), first.macs())});
  return number_table(rows);
}

Value compared(const Value& expect, const Summary& summary) {
  Value all = Value::map();
  for (const Value::Entry& e : expect.as_map()) {
    const std::optional<double> found = summary.metric(e.key);
    Value& line = all[e.key] = e.value;
    line["found"] = found ? Value(*found) : Value();
    line["met"] = found && std::abs(*found - e.value.at("value").as_double()) <= e.value.at("within").as_double();
  }
  return all;
}

std::string expectation_table(const Value& compared) {
  if (compared.as_map().empty()) return "";
  std::vector<std::vector<std::string>> rows{{"metric", "expected", "found", ""}};
  for (const Value::Entry& e : compared.as_map()) {
    const bool count = e.key == "params" || e.key == "macs";
    const auto text = [&](const Value& v) {
      return v.is_null() ? "-" : count ? count_text(std::llround(v.as_double())) : fixed(v.as_double(), 3);
    };
    rows.push_back({e.key, text(e.value.at("value")) + " ± " + text(e.value.at("within")), text(e.value.at("found")),
                    e.value.at("met").as_bool() ? "met" : "missed"});
  }
  return number_table(rows);
}

std::string stage_table(const std::vector<StageSummary>& stages, const LeadingMetric& leading) {
  std::vector<std::vector<std::string>> rows{{"stage", "epochs", "params", "MACs", "test " + leading.name}};
  for (const StageSummary& s : stages) {
    rows.push_back({s.name, std::to_string(s.epochs), change(s.before.params, s.after.params),
                    change(s.before.macs, s.after.macs),
                    s.metrics.empty() ? "" : metric_text(s.metrics.front().second, leading.unit)});
  }
  return number_table(rows);
}

}  // namespace espalier
