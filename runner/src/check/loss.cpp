// What holds for every loss, on twelve samples of each task that it is for.
#include "espalier/loss.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "check/task_samples.h"

namespace espalier {

namespace {

constexpr double step = 1e-5;
// Of the largest derivative: what central differences of this step leave, and rounding.
constexpr double tolerance = 1e-6;

struct Ready {
  std::unique_ptr<Loss> loss;
  const TaskSample* sample = nullptr;
};

// The loss with each of the tasks that it is for.
std::vector<Ready> tried(const Registered& r) {
  std::vector<Ready> all;
  std::string why;
  for (const TaskSample& s : task_samples()) {
    std::unique_ptr<Loss> loss;
    try {
      loss = make_example<Loss>(r);
      if (!loss->networks().empty()) throw CheckSkipped("it learns from another network, of which there is no example");
      if (loss->outputs() != std::vector<std::string>{"logits"})
        throw CheckSkipped("it needs outputs beside the logits, of which there is no example");
      loss->check(s.target);
    } catch (const CheckSkipped&) {
      throw;
    } catch (const Error& e) {
      if (why.empty()) why = e.what();
      continue;
    }
    LossSetup setup{.target = s.target, .class_counts = {}, .device = at::kCPU, .dtype = at::kDouble, .networks = {}};
    if (s.target.task == task::classification) setup.class_counts = s.truth.bincount({}, s.target.outputs);
    loss->begin(setup);
    all.push_back({std::move(loss), &s});
  }
  if (all.empty()) throw CheckSkipped("it is for none of the tasks that are tried: " + why);
  return all;
}

at::Tensor value_of(const Ready& r, const at::Tensor& logits, int64_t begin, int64_t end, bool training) {
  const NamedTensors outputs{{"logits", logits}};
  const Batch batch = batch_of(*r.sample, begin, end);
  return r.loss->value({.outputs = outputs, .batch = batch, .training = training});
}

std::string check_value(const Registered& r) {
  std::string tasks;
  for (const Ready& t : tried(r)) {
    tasks += (tasks.empty() ? "" : ", ") + t.sample->name;
    for (const bool training : {true, false}) {
      const at::Tensor v = value_of(t, t.sample->logits, 0, 12, training);
      expect(v.dim() == 0, "a scalar for " + t.sample->name, to_string(v.sizes().vec()));
      expect_finite("the loss for " + t.sample->name, v);
      expect_equal("the same loss for " + t.sample->name + " a second time", v,
                   value_of(t, t.sample->logits, 0, 12, training));
    }
  }
  return "for " + tasks;
}

std::string check_gradient(const Registered& r) {
  for (const Ready& t : tried(r)) {
    at::Tensor logits = t.sample->logits.clone();
    logits.requires_grad_(true);
    value_of(t, logits, 0, 12, true).backward();
    const at::Tensor gradient = logits.grad();
    expect(gradient.defined(), "a gradient for " + t.sample->name, "none");
    const c10::NoGradGuard no_grad;
    at::Tensor differences = at::zeros_like(gradient);
    at::Tensor moved = t.sample->logits.clone();
    auto* x = moved.mutable_data_ptr<double>();
    auto* d = differences.mutable_data_ptr<double>();
    for (int64_t i = 0; i < moved.numel(); ++i) {
      const double centre = x[i];
      x[i] = centre + step;
      const double above = value_of(t, moved, 0, 12, true).item<double>();
      x[i] = centre - step;
      d[i] = (above - value_of(t, moved, 0, 12, true).item<double>()) / (2 * step);
      x[i] = centre;
    }
    expect_near("the gradient for " + t.sample->name + " against central differences", differences, gradient,
                tolerance);
  }
  return {};
}

// Means of parts, weighed as weight() says, come to the mean of the whole: evaluations and accumulated gradients need
// it.
std::string check_parts(const Registered& r) {
  const c10::NoGradGuard no_grad;
  for (const Ready& t : tried(r)) {
    double sum = 0, weights = 0;
    for (const auto& [begin, end] : {std::pair(0, 5), std::pair(5, 12)}) {
      const at::Tensor weight = t.loss->weight(batch_of(*t.sample, begin, end));
      const double w = weight.defined() ? weight.item<double>() : end - begin;
      sum += w * value_of(t, t.sample->logits.slice(0, begin, end), begin, end, false).item<double>();
      weights += w;
    }
    const double whole = value_of(t, t.sample->logits, 0, 12, false).item<double>();
    expect(std::abs(sum / weights - whole) <= 1e-9 * (1 + std::abs(whole)),
           "the mean of two parts of " + t.sample->name + ", weighed as weight() says, to be that of the whole, " +
               std::to_string(whole),
           std::to_string(sum / weights));
  }
  return {};
}

}  // namespace

std::vector<Check> loss_checks() {
  return {{Loss::kind, "value", "a finite scalar, the same each time", check_value},
          {Loss::kind, "gradient", "the gradient is that of central differences", check_gradient},
          {Loss::kind, "parts", "the losses of two parts of a batch come to that of the whole", check_parts}};
}

}  // namespace espalier
