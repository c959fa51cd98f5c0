// What holds for every metric, on twelve samples of each task that it is for.
#include "espalier/metric.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "check/task_samples.h"

namespace espalier {

namespace {

at::Tensor contribution(const Metric& metric, const TaskSample& s, int64_t begin, int64_t end) {
  const c10::NoGradGuard no_grad;
  const NamedTensors outputs{{"logits", s.logits.slice(0, begin, end)}};
  const Batch batch = batch_of(s, begin, end);
  return metric.contribution({.outputs = outputs, .batch = batch, .training = false});
}

std::vector<const TaskSample*> samples_for(const Metric& metric) {
  std::vector<const TaskSample*> all;
  std::string why;
  for (const TaskSample& s : task_samples()) {
    try {
      metric.check(s.target);
      all.push_back(&s);
    } catch (const Error& e) {
      if (why.empty()) why = e.what();
    }
  }
  if (all.empty()) throw CheckSkipped("it is for none of the tasks that are tried: " + why);
  return all;
}

std::string check_value(const Registered& r) {
  const auto metric = make_example<Metric>(r);
  std::string tasks;
  for (const TaskSample* s : samples_for(*metric)) {
    tasks += (tasks.empty() ? "" : ", ") + s->name;
    const at::Tensor c = contribution(*metric, *s, 0, 12);
    expect(c.scalar_type() == at::kDouble && !c.requires_grad(), "a contribution in float64 without gradients",
           std::string(c10::toString(c.scalar_type())));
    const double value = metric->value(c);
    expect(std::isfinite(value), "a finite value for " + s->name, std::to_string(value));
    expect(value == metric->value(contribution(*metric, *s, 0, 12)), "the same value a second time", "another");
  }
  return "for " + tasks;
}

std::string check_parts(const Registered& r) {
  const auto metric = make_example<Metric>(r);
  for (const TaskSample* s : samples_for(*metric)) {
    const at::Tensor a = contribution(*metric, *s, 0, 5), b = contribution(*metric, *s, 5, 12);
    const double whole = metric->value(contribution(*metric, *s, 0, 12));
    const double parts = metric->value((metric->concatenates() ? at::cat({a, b}) : a + b).contiguous());
    expect(
        std::abs(parts - whole) <= 1e-9 * (1 + std::abs(whole)),
        "the contributions of two parts of " + s->name + " to come to the value of the whole, " + std::to_string(whole),
        std::to_string(parts));
  }
  return {};
}

}  // namespace

std::vector<Check> metric_checks() {
  return {{Metric::kind, "value", "a finite number, the same each time", check_value},
          {Metric::kind, "parts", "the contributions of two parts of a batch come to that of the whole", check_parts}};
}

}  // namespace espalier
