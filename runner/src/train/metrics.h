#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/metric.h"
#include "espalier/run.h"
#include "record/summary.h"
#include "train/made.h"

namespace espalier {

// The metrics of a run: those that the recipe names, or those of the data's task.
class Metrics {
 public:
  // Makes them. Throws InputError at the recipe's place if one is not for the task.
  void make(const std::vector<Value>& specs, const TargetSpec& target);

  const std::vector<Made<Metric>>& all() const { return metrics_; }
  // Their names, the leading one first.
  std::vector<std::string> names() const;
  const LeadingMetric& leading() const { return leading_; }
  // The leading one, for training steps; null where it needs all samples together.
  const Made<Metric>* of_steps() const;
  // Whether a larger value of one of them, or a smaller "loss", is better.
  bool larger_is_better(const std::string& name) const;

 private:
  std::vector<Made<Metric>> metrics_;
  LeadingMetric leading_;
};

// A metric by name, or "loss".
double metric_of(const Evaluation& e, const std::string& name);

// For checkpoints.
Value to_value(const Evaluation& e);
Evaluation evaluation_from(const Value& value);

}  // namespace espalier
