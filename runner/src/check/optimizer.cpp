// What holds for every optimizer, on a small network with weights and architecture parameters.
#include "espalier/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/edit.h"
#include "espalier/random_fill.h"

namespace espalier {

namespace {

constexpr Role trained[] = {Role::weight, Role::architecture};
// Gradients are kept as a state, so that they follow edits with the elements that they belong to.
const std::string gradients = "check.gradient";

struct Trial {
  explicit Trial(const Registered& r, at::ScalarType dtype = at::kDouble, const Selector& selected = {},
                 Graph g = gated_sample())
      : on(selected), graph(std::move(g)), weights(graph, dtype, at::kCPU), optimizer(make_example<Optimizer>(r)) {
    const c10::NoGradGuard no_grad;
    fill(graph, weights);
    weights.add_state(graph, {.name = gradients});
    each([&](ParamId p) {
      const at::Tensor u = uniform(weights[p].sizes().vec(), -1, 1, RandomKey(6).with(graph[p].name));
      at::Tensor(weights.state(gradients, p)).copy_(u + 0.2 * at::sign(u));
    });
    attach();
  }
  void attach() { optimizer->attach(graph, weights, on, "checked"); }

  // Calls for each parameter that has a gradient.
  template <class Body>
  void each(Body body) const {
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const ParamId p{static_cast<int32_t>(i)};
      if (graph[p].role != Role::buffer) body(p);
    }
  }
  void step(double learning_rate) {
    const c10::NoGradGuard no_grad;
    ++steps;
    const double sign = turns && steps % 3 == 0 ? -1 : 1;
    each([&](ParamId p) {
      at::Tensor(weights.gradient(p))
          .copy_(weights.state(gradients, p))
          .mul_(sign * (1 + 0.1 * static_cast<double>(steps)));
    });
    optimizer->step(weights, learning_rate);
  }
  void step() { step(optimizer->learning_rate()); }
  void several(int n) {
    for (int i = 0; i < n; ++i) step();
  }

  Selector on;
  Graph graph;
  Weights weights;
  std::unique_ptr<Optimizer> optimizer;
  int steps = 0;
  bool turns = false;  // whether every third gradient has the other sign; without, the signs are constant
};

std::string check_deterministic(const Registered& r) {
  Trial a(r, at::kFloat), b(r, at::kFloat);
  a.several(3);
  b.several(3);
  expect_same("the same after three steps of a second object", a.graph, a.weights, b.weights);
  return {};
}

std::string check_decreases(const Registered& r) {
  constexpr int steps = 200;
  const c10::NoGradGuard no_grad;
  Trial t(r);
  std::vector<at::Tensor> minimum;  // of half the squared distance from it
  t.each([&](ParamId p) {
    minimum.push_back(uniform(t.weights[p].sizes().vec(), -1, 1, RandomKey(8).with(t.graph[p].name)));
  });
  const auto distance = [&] {
    double sum = 0;
    size_t i = 0;
    t.each([&](ParamId p) {
      const at::Tensor d = t.weights[p].detach() - minimum[i++];
      at::Tensor(t.weights.gradient(p)).copy_(d);
      sum += d.pow(2).sum().item<double>() / 2;
    });
    return sum;
  };
  const double first = distance();
  for (int i = 0; i < steps; ++i) {
    t.optimizer->step(t.weights, t.optimizer->learning_rate());
    distance();
  }
  const double last = distance();
  expect(last < first,
         "less of a convex quadratic after 200 steps of its own learning rate, than " + std::to_string(first),
         std::to_string(last));
  return std::to_string(first) + " to " + std::to_string(last);
}

std::string check_selection(const Registered& r) {
  const c10::NoGradGuard no_grad;
  Trial t(r, at::kDouble, Selector("conv1"));
  const Trial before(r, at::kDouble, Selector("conv1"));
  t.several(3);
  const ParamId selected = t.graph.parameter("conv1.weight");
  t.each([&](ParamId p) {
    if (p == selected) return;
    expect_equal("'" + t.graph[p].name + "' as it was: 'conv1' is selected alone", before.weights[p], t.weights[p]);
  });
  for (size_t i = 0; i < t.graph.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    if (t.graph[p].role == Role::buffer)
      expect_equal("the buffer '" + t.graph[p].name + "' as it was", before.weights[p], t.weights[p]);
  }
  expect(!t.weights[selected].equal(before.weights[selected]), "'conv1.weight', which is selected, has moved",
         "it has not");
  return {};
}

// Whether an optimizer that goes through an edit holds what one without the edit does, in what is kept.
void expect_same_through(const Registered& r, const std::string& axis_name, bool zeros) {
  const c10::NoGradGuard no_grad;
  Trial edited(r), whole(r);
  const Axis axis = whole.graph.axis(axis_name);
  const int64_t size = whole.graph[axis].size;
  const Indices keep = kept_positions(size);
  if (zeros) {
    for (Trial* t : {&edited, &whole}) {
      t->each([&](ParamId p) {
        const at::Tensor stays =
            belongs_to(t->graph, p, axis, complement(keep, size)).logical_not().to(t->weights.dtype());
        at::Tensor(t->weights[p].detach()).mul_(stays);
        at::Tensor(t->weights.state(gradients, p)).mul_(stays);
      });
    }
  }
  edited.several(3);
  whole.several(3);
  apply(edited.graph, {&edited.weights}, shrink(edited.graph, axis, keep));
  edited.attach();
  edited.several(3);
  whole.several(3);
  // The same slices of what saw no edit until now.
  apply(whole.graph, {&whole.weights}, shrink(whole.graph, axis, keep));
  const std::string what = "what is kept of '" + axis_name + "', the same with an edit between two steps as after them";
  whole.each([&](ParamId p) {
    const std::string name = "'" + whole.graph[p].name + "'";
    expect_near(what + ", " + name, whole.weights[p], edited.weights[p], 1e-12);
    for (const StateSpec& s : whole.weights.state_specs())
      expect_near(what + ", the state '" + s.name + "' of " + name, whole.weights.state(s.name, p),
                  edited.weights.state(s.name, p), 1e-12);
  });
}

std::string check_edits(const Registered& r) {
  bool coordinates = true;
  const Graph g = gated_sample();
  for (const Axis axis : free_axes(g)) {
    try {
      if (coordinates) expect_same_through(r, g[axis].name, /*zeros=*/false);
    } catch (const CheckFailure&) {
      coordinates = false;
    }
    if (!coordinates) expect_same_through(r, g[axis].name, /*zeros=*/true);
  }
  return coordinates ? "element by element" : "not element by element: with zeros in what goes";
}

// After any step there may be a checkpoint. What is kept between steps may show only after several more (an average
// every few steps), or only where gradients change their signs, or only where they do not.
std::string check_checkpoint(const Registered& r) {
  constexpr int stops = 6, more = 6;
  for (const bool turns : {false, true}) {
    Trial whole(r);
    whole.turns = turns;
    std::vector<std::unique_ptr<Trial>> continued;
    for (int stop = 1; stop <= stops; ++stop) {
      whole.step();
      for (const auto& t : continued) t->step();
      auto t = std::make_unique<Trial>(r);
      t->turns = turns;
      copy_all(whole.weights, t->weights, "attach()");
      t->steps = whole.steps;
      continued.push_back(std::move(t));
    }
    whole.several(more);
    for (int stop = 1; stop <= stops; ++stop) {
      Trial& t = *continued[static_cast<size_t>(stop) - 1];
      t.several(more);
      expect_same("a new object goes on with values, states and counters after step " + std::to_string(stop) +
                      " as the old one does, " +
                      (turns ? "with gradients that change their signs" : "with gradients of constant signs"),
                  whole.graph, whole.weights, t.weights);
    }
  }
  return {};
}

std::string check_gaps(const Registered& r) {
  Trial t(r, at::kFloat);
  t.several(3);
  const auto expect_zero_gaps = [](const std::string& what, const Arena& arena) {
    at::Tensor rest = arena.flat().detach().clone();
    for (const Slot& s : arena.slots()) rest.narrow(0, s.offset, s.numel).zero_();
    expect_equal("zeros between the parameters of " + what, at::zeros_like(rest), rest);
  };
  for (const Role role : trained) {
    const Bank& b = t.weights.bank(role);
    if (b.values.numel() == 0) continue;
    expect_zero_gaps("the values", b.values);
    expect_zero_gaps("the gradients", b.gradients);
    for (const auto& [name, state] : b.states) expect_zero_gaps("the state '" + name + "'", state);
  }
  return {};
}

std::string check_types(const Registered& r) {
  Trial a(r, at::kDouble), b(r, at::kFloat);
  a.several(5);
  b.several(5);
  a.each([&](ParamId p) {
    expect_near("float32 as float64 after five steps, '" + a.graph[p].name + "'", a.weights[p], b.weights[p], 1e-3);
  });
  return {};
}

std::string check_learning_rate(const Registered& r) {
  Trial t(r);
  const Trial before(r);
  for (int i = 0; i < 3; ++i) t.step(0);
  t.each([&](ParamId p) {
    expect_equal("'" + t.graph[p].name + "' as it was: the learning rate is 0", before.weights[p], t.weights[p]);
  });
  return {};
}

std::string check_speed(const Registered& r) {
  const c10::NoGradGuard no_grad;
  Trial t(r, at::kFloat, {}, large_sample());
  const at::Tensor& from = t.weights.bank(Role::weight).values.flat();
  at::Tensor to = at::zeros_like(from);
  const double copy = seconds_of([&] { to.copy_(from); });
  const double rate = t.optimizer->learning_rate();
  return speed_remark(seconds_of([&] { t.optimizer->step(t.weights, rate); }), "a copy of the weights", copy);
}

}  // namespace

std::vector<Check> optimizer_checks() {
  const std::string kind = Optimizer::kind;
  return {
      {kind, "deterministic", "the same bytes each time, in two objects", check_deterministic},
      {kind, "decreases", "comes nearer to the minimum of a convex quadratic", check_decreases},
      {kind, "selection", "moves the selected parameters and no others", check_selection},
      {kind, "edits", "an edit between two steps changes nothing for what is kept: all state is registered",
       check_edits},
      {kind, "checkpoint", "a new object goes on from values, states and counters to the same bytes", check_checkpoint},
      {kind, "gaps", "what lies between the parameters stays zero", check_gaps},
      {kind, "types", "float32 agrees with float64", check_types},
      {kind, "learning_rate", "a learning rate of 0 changes no value", check_learning_rate},
      {kind, "speed", "one step beside a copy of the weights", check_speed}};
}

}  // namespace espalier
