// What holds for every regularizer, on small networks.
#include "espalier/regularizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/edit.h"
#include "espalier/testkit.h"

namespace espalier {

namespace {

at::Tensor add_to(Regularizer& regularizer, const Graph& graph, Weights& weights) {
  at::Tensor value = at::zeros({}, at::kDouble);
  regularizer.add(graph, weights, value);
  return value.detach();
}

bool has_gradient(const Weights& w) {
  for (const Role role : {Role::weight, Role::architecture}) {
    const at::Tensor& g = w.bank(role).gradients.flat();
    if (g.numel() > 0 && g.abs().max().item<double>() > 0) return true;
  }
  return false;
}

// The first network in which it finds something to penalise.
Graph graph_for(const Registered& r) {
  std::string why;
  for (const SampleNetwork& s : sample_networks()) {
    const Graph graph = s.build();
    Weights weights(graph, at::kDouble, at::kCPU);
    fill(graph, weights);
    const auto regularizer = make_example<Regularizer>(r);
    try {
      regularizer->attach(graph, weights);
      add_to(*regularizer, graph, weights);
    } catch (const Error& e) {  // such as a selector that matches nothing
      if (why.empty()) why = e.what();
      continue;
    }
    if (has_gradient(weights)) return graph;
  }
  throw CheckSkipped(why.empty() ? "it adds no gradient to any of the networks that are tried, with its defaults"
                                 : "it takes none of the networks that are tried: " + why);
}

// A regularizer at work.
struct Trial {
  Trial(const Registered& r, const Graph& g, at::ScalarType dtype = at::kDouble)
      : graph(g), weights(graph, dtype, at::kCPU), regularizer(make_example<Regularizer>(r)) {
    fill(graph, weights);
    regularizer->attach(graph, weights);
  }
  at::Tensor add() { return add_to(*regularizer, graph, weights); }
  // Of all parameters, in one.
  at::Tensor gradient(Role role = Role::weight) const { return weights.bank(role).gradients.flat(); }

  Graph graph;
  Weights weights;
  std::unique_ptr<Regularizer> regularizer;
};

constexpr Role trained[] = {Role::weight, Role::architecture};

std::string check_gradients(const Registered& r) {
  Trial t(r, graph_for(r));
  const double error = testkit::gradient_error(*t.regularizer, t.graph, t.weights, 1e-6);
  expect(error <= 1e-5, "the gradient of its value: finite differences agree to 1e-5 of the largest element",
         "a difference of " + std::to_string(error) + " of it");
  return {};
}

std::string check_value(const Registered& r) {
  Trial t(r, graph_for(r));
  const at::Tensor value = t.add();
  expect_finite("the value", value);
  expect(value.item<double>() >= 0, "a value that is not negative", std::to_string(value.item<double>()));
  for (const Role role : trained) expect_finite("the gradient", t.gradient(role));
  return {};
}

std::string check_deterministic(const Registered& r) {
  const Graph g = graph_for(r);
  Trial a(r, g, at::kFloat), b(r, g, at::kFloat);
  const at::Tensor value = a.add();
  expect_equal("the same value from a second object", value, b.add());
  for (const Role role : trained)
    expect_equal("the same gradient from a second object", a.gradient(role), b.gradient(role));
  a.weights.zero_gradients();
  expect_equal("the same value when called again", value, a.add());
  for (const Role role : trained)
    expect_equal("the same gradient when called again", b.gradient(role), a.gradient(role));
  return {};
}

std::string check_adds(const Registered& r) {
  const Graph g = graph_for(r);
  Trial a(r, g), b(r, g);
  at::Tensor value = at::zeros({}, at::kDouble).add(0.5);
  for (const Role role : trained) {
    const Arena& arena = b.weights.bank(role).gradients;
    for (size_t i = 0; i < arena.slots().size(); ++i) at::Tensor(arena.view(i)).fill_(0.25);
  }
  std::vector<at::Tensor> before;
  for (const Role role : trained) before.push_back(b.gradient(role).clone());
  const at::Tensor alone = a.add();
  b.regularizer->add(b.graph, b.weights, value);
  expect_near("the value added to the 0.5 that there is", alone + 0.5, value.detach(), 1e-12);
  for (size_t i = 0; i < 2; ++i)
    expect_near("the gradient added to the 0.25 that there is", before[i] + a.gradient(trained[i]),
                b.gradient(trained[i]), 1e-12);
  const Trial untouched(r, g);
  for (const Role role : trained)
    expect_equal("weights that it leaves as they are", untouched.weights.bank(role).values.flat(),
                 b.weights.bank(role).values.flat());
  return {};
}

std::string check_edits(const Registered& r) {
  Trial t(r, graph_for(r));
  for (const Axis axis : free_axes(t.graph)) {
    t.add();
    const std::string name = t.graph[axis].name;
    apply(t.graph, {&t.weights}, shrink(t.graph, axis, kept_positions(t.graph[axis].size)));
    t.weights.zero_gradients();
    t.regularizer->attach(t.graph, t.weights);
    const at::Tensor value = t.add();
    Trial fresh(r, t.graph);
    copy_all(t.weights, fresh.weights, "attach()");  // what it remembers lies in states and counters
    fresh.regularizer->attach(fresh.graph, fresh.weights);
    const std::string what = ", attached again after '" + name + "' shrank, as of a new object";
    expect_equal("the value" + what, fresh.add(), value);
    for (const Role role : trained) expect_equal("the gradient" + what, fresh.gradient(role), t.gradient(role));
  }
  return {};
}

std::string check_zero(const Registered& r) {
  Trial t(r, graph_for(r));
  for (const Role role : trained) {
    if (t.weights.bank(role).values.numel() > 0) at::Tensor(t.weights.bank(role).values.flat()).zero_();
  }
  expect_finite("the value at weights of zero", t.add());
  for (const Role role : trained) expect_finite("the gradient at weights of zero", t.gradient(role));
  return {};
}

std::string check_types(const Registered& r) {
  const Graph g = graph_for(r);
  Trial a(r, g, at::kDouble), b(r, g, at::kFloat);
  expect_near("the value of float32 as of float64", a.add(), b.add(), 1e-4);
  for (const Role role : trained)
    expect_near("the gradient of float32 as of float64", a.gradient(role), b.gradient(role), 1e-4);
  return {};
}

std::string check_speed(const Registered& r) {
  Graph g = large_sample();
  try {
    Trial large(r, g, at::kFloat);
    large.add();
    if (!has_gradient(large.weights)) g = graph_for(r);
  } catch (const Error&) {
    g = graph_for(r);
  }
  Trial t(r, g, at::kFloat);
  const at::Tensor& from = t.weights.bank(Role::weight).values.flat();
  at::Tensor to = at::zeros_like(from);
  const double copy = seconds_of([&] {
    const c10::NoGradGuard no_grad;
    to.copy_(from);
  });
  return speed_remark(seconds_of([&] { t.add(); }), "a copy of the weights", copy);
}

// The values after after_update() with this learning rate on the first network that it takes; undefined: it changes
// nothing.
struct Updated {
  at::Tensor before, after;
};
Updated updated(const Registered& r, double rate) {
  std::string why;
  for (const SampleNetwork& s : sample_networks()) {
    const Graph graph = s.build();
    Weights weights(graph, at::kDouble, at::kCPU);
    fill(graph, weights);
    const auto regularizer = make_example<Regularizer>(r);
    try {
      regularizer->attach(graph, weights);
    } catch (const Error& e) {  // such as a selector that matches nothing
      why = "it takes none of the networks that are tried: " + std::string(e.what());
      continue;
    }
    const at::Tensor& values = weights.bank(Role::weight).values.flat();
    const at::Tensor before = values.clone();
    const c10::NoGradGuard no_grad;
    const auto act = [&](double step) {
      regularizer->after_update(graph, weights, LearningRates(std::vector<double>(graph.parameters().size(), step)));
    };
    act(0.1);
    if (values.equal(before)) continue;
    at::Tensor(values).copy_(before);
    act(rate);
    return {before, values.clone()};
  }
  if (!why.empty()) throw CheckSkipped(why);
  return {};
}

std::string check_proximal(const Registered& r) {
  const Updated still = updated(r, 0);
  if (!still.before.defined()) return "it does nothing after an update";
  expect(still.after.equal(still.before), "the same weights after an update with the learning rate 0", "others");
  const Updated once = updated(r, 0.05), again = updated(r, 0.05);
  expect(once.after.isfinite().all().item<bool>(), "finite weights after an update", "some that are not");
  expect(once.after.equal(again.after), "the same bytes after the same update of two objects", "others");
  return "";
}

}  // namespace

std::vector<Check> regularizer_checks() {
  const std::string kind = Regularizer::kind;
  return {
      {kind, "gradients", "the gradient is that of the value, against finite differences in float64", check_gradients},
      {kind, "value", "value and gradient are finite, the value is not negative", check_value},
      {kind, "deterministic", "the same bytes each time, in two objects", check_deterministic},
      {kind, "adds", "adds to value and gradients, and leaves the weights alone", check_adds},
      {kind, "edits", "attached again after an edit, it works like a new one", check_edits},
      {kind, "zero", "no NaN where all weights are zero", check_zero},
      {kind, "types", "float32 agrees with float64", check_types},
      {kind, "proximal", "after an update: nothing at the learning rate 0, the same bytes each time", check_proximal},
      {kind, "speed", "one call beside a copy of the weights", check_speed}};
}

}  // namespace espalier
