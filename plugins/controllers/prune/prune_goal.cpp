#include "prune_goal.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include <espalier/error.h>
#include <espalier/value.h>

namespace espalier {

PruneGoal::PruneGoal(Target target) : o_(std::move(target)) {
  const Target& t = o_;
  int given = 0;
  for (const auto& [what, value] :
       {std::pair("macs", t.macs), std::pair("params", t.params), std::pair("share", t.share),
        std::pair("quantile", t.quantile), std::pair("threshold", t.threshold), std::pair("latency", t.latency),
        std::pair("latency_ms", t.latency_ms)}) {
    if (!value) continue;
    ++given;
    target_ = {what, *value};
  }
  if (given != 1) {
    throw Error(std::string("'target' names ") + (given == 0 ? "nothing" : "more than one thing") +
                " to reach; give one of macs, params, share, quantile, threshold, latency and latency_ms: target: "
                "{macs: 0.5}");
  }
  if (of_latency() && t.table.empty()) {
    throw Error(
        "'target': a latency is counted by a table that was measured on the device. `espalier latency "
        "RECIPE_OR_RUN --out FILE` makes one: target: {" +
        target_.what + ": " + number_text(target_.value) + ", table: FILE}");
  }
  if (!of_latency() && (!t.table.empty() || t.any_device))
    throw Error("'target': 'table' and 'any_device' belong to latency and latency_ms; leave them out");
}

const LatencyTable& PruneGoal::latencies() const {
  if (table_) return *table_;
  const std::string& file = o_.table;
  const std::string make = "; `espalier latency RECIPE_OR_RUN --out " + file + "` measures it on this machine";
  try {
    table_ = LatencyTable::read(file);
  } catch (const InputError& e) {
    throw Error("'target': " + std::string(e.what()) + make);
  }
  if (o_.any_device) return *table_;
  try {
    table_->require_device();
  } catch (const Error& e) {
    table_.reset();
    throw Error("'target': " + std::string(e.what()) + make +
                ", and `any_device: true` beside 'table' counts with it all the same");
  }
  return *table_;
}

CostCounter PruneGoal::counter(const Graph& graph) const {
  try {
    return CostCounter(graph, of_latency() ? &latencies() : nullptr);
  } catch (const Error& e) {
    const std::string what = e.what();
    if (!of_latency() || what.starts_with("'target'")) throw;
    throw Error("'target': " + o_.table + ": " + what +
                "; measure one for this network with `espalier latency RECIPE_OR_RUN --out FILE`");
  }
}

NetworkCost PruneGoal::cost(const Graph& graph) const {
  return of_latency() ? counter(graph).now() : NetworkCost{graph.parameter_count(), graph.macs()};
}

void PruneGoal::refuse_nothing(const NetworkCost& begun) const {
  const double goal = wanted(begun), have = cost_of(begun);
  if (goal < have) return;
  throw Error("'target': the network has " + cost_text(have, target_.what) + ", and the target is " +
              cost_text(goal, target_.what) + ": nothing would go");
}

int64_t PruneGoal::positions_to_go(int64_t of, double share) const {
  const auto count = static_cast<int64_t>(std::floor(share * target_.value * static_cast<double>(of) + 1e-9));
  return target_.what == "quantile" ? count + 1 : count;  // the quantile itself goes, too
}

std::string number_text(double v) {
  return to_json(Value(v));
}

namespace {

// "1,108,910 of 2,236,300 multiply-accumulates (49.59 %)"
std::string share_text(const NetworkCost& before, const NetworkCost& after, const std::string& what) {
  const double was = espalier::cost_of(before, what), is = espalier::cost_of(after, what);
  const std::string part = cost_text(is, what);
  char share[32];
  std::snprintf(share, sizeof share, " (%.2f %%)", 100 * is / was);
  return part.substr(0, part.find(' ')) + " of " + cost_text(was, what) + share;
}

}  // namespace

std::string result_text(const NetworkCost& before, const NetworkCost& after) {
  return share_text(before, after, "macs") +
         (before.ms > 0 ? ", " + share_text(before, after, "latency") : std::string()) + " and " +
         share_text(before, after, "params") + " stay";
}

}  // namespace espalier
