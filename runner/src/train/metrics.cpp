#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/error.h"

namespace espalier {

namespace {

// JSON has no infinity and no NaN: null.
Value number(double v) {
  return std::isfinite(v) ? Value(v) : Value();
}

double number_of(const Value& v) {
  return v.is_null() ? std::numeric_limits<double>::quiet_NaN() : v.as_double();
}

}  // namespace

void Metrics::make(const std::vector<Value>& specs, const TargetSpec& target) {
  metrics_.clear();
  for (const Value& spec : specs.empty() ? default_metrics(target) : specs) {
    metrics_.push_back(Made<Metric>::make(spec));
    const Made<Metric>& m = metrics_.back();
    m.call([&](Metric& metric) { metric.check(target); });
  }
  const Made<Metric>& first = metrics_.front();
  leading_ = {first.component->component.name, first.object->unit(), first.object->larger_is_better()};
}

std::vector<std::string> Metrics::names() const {
  std::vector<std::string> names;
  for (const auto& m : metrics_) names.push_back(m.component->component.name);
  return names;
}

const Made<Metric>* Metrics::of_steps() const {
  return metrics_.empty() || metrics_.front().object->concatenates() ? nullptr : &metrics_.front();
}

bool Metrics::larger_is_better(const std::string& name) const {
  if (name == "loss") return false;
  for (const auto& m : metrics_) {
    if (m.component->component.name == name) return m.object->larger_is_better();
  }
  return true;
}

double metric_of(const Evaluation& e, const std::string& name) {
  return name == "loss" ? e.loss : e[name];
}

Value to_value(const Evaluation& e) {
  Value metrics = Value::map();
  for (const auto& [name, value] : e.metrics) metrics[name] = number(value);
  return Value::map({{"loss", number(e.loss)}, {"metrics", metrics}, {"score", number(e.score)}});
}

Evaluation evaluation_from(const Value& value) {
  Evaluation e{.loss = number_of(value.at("loss"))};
  for (const Value::Entry& m : value.at("metrics").as_map()) e.metrics.emplace_back(m.key, number_of(m.value));
  e.score = number_of(value.at("score"));
  return e;
}

}  // namespace espalier
