#include "check/samples.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "check/expect.h"
#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "espalier/rewrite.h"

namespace espalier {

namespace {

// A number within the declared bounds.
double example_number(const ParameterInfo& p) {
  if (std::isfinite(p.least) && std::isfinite(p.most)) return (p.least + p.most) / 2;
  if (std::isfinite(p.least)) return p.open_below ? p.least + 1 : p.least;
  if (std::isfinite(p.most)) return p.open_above ? p.most - 1 : p.most;
  return 1;
}

Value example_component(const std::string& kind) {
  for (const Registered* r : Registry::instance().all()) {
    if (r->component.kind != kind) continue;
    if (std::ranges::none_of(r->component.parameters, &ParameterInfo::required))
      return Value::map({{"use", r->component.name}});
  }
  throw CheckSkipped("a parameter needs " + with_article(kind) + ", and none is loaded; see --plugins");
}

Value example_value(const ParameterInfo& p) {
  switch (p.type) {
    case ParameterType::boolean:
      return true;
    case ParameterType::integer:
      return static_cast<int64_t>(std::ceil(example_number(p)));
    case ParameterType::number:
    case ParameterType::per_selector:
      return example_number(p);
    case ParameterType::string:
    case ParameterType::path:
      return "x";
    case ParameterType::choice:
      return p.choices.front();
    case ParameterType::integers:
      return std::vector<int64_t>{static_cast<int64_t>(std::ceil(example_number(p)))};
    case ParameterType::numbers:
      return std::vector<double>{example_number(p)};
    case ParameterType::strings:
      return std::vector<std::string>{"x"};
    case ParameterType::selector:
      return std::vector<std::string>{"all"};
    case ParameterType::component:
      return example_component(p.component_kind);
    case ParameterType::components: {
      Value list = Value::list();
      list.push_back(example_component(p.component_kind));
      return list;
    }
    case ParameterType::options: {
      Value map = Value::map();
      for (const ParameterInfo& inner : p.options) {
        if (inner.required) map[inner.name] = example_value(inner);
      }
      return map;
    }
  }
  return {};
}

}  // namespace

ExampleOptions& example_options() {
  static ExampleOptions options;
  return options;
}

Value example_spec(const Registered& component) {
  const Component& c = component.component;
  Value spec = Value::map({{"use", c.name}});
  for (const ParameterInfo& p : c.parameters) {
    const Value* given = example_options().with.find(p.name);
    if (!given && !c.examples.empty()) given = c.examples.front().find(p.name);
    if (given) {
      spec[p.name] = *given;
    } else if (p.required) {
      spec[p.name] = example_value(p);
    }
  }
  return spec;
}

Graph convolutional_sample() {
  GraphBuilder g({.channels = 2, .height = 6, .width = 6});
  Edge x = g.conv("conv1", g.input(), {.filters = 4, .kernel = 3, .padding = 1, .bias = false});
  x = g.relu(g.batch_norm("bn1", x));
  x = g.relu(g.add(g.batch_norm("bn2", g.conv("conv2", x, {.filters = 4, .kernel = 3, .padding = 1})), x));
  x = g.relu(g.conv("conv3", x, {.filters = 5, .kernel = 3}));
  x = g.relu(g.linear("fc1", g.flatten(x), {.features = 6}));
  return g.output(g.linear("fc2", x, {.features = 3}));
}

Graph gated_sample() {
  Graph g = convolutional_sample();
  apply(g, {},
        Edits{{InsertGate{.gate = "gate1", .edge = "bn1", .axis = "", .initial = 1, .role = "weight"}},
              {InsertGate{.gate = "gate2", .edge = "conv3", .axis = "", .initial = 1, .role = "architecture"}}});
  return g;
}

Graph attention_sample() {
  GraphBuilder g({.channels = 2, .height = 4, .width = 4});
  const Edge x = g.to_tokens(g.conv("conv", g.input(), {.filters = 4, .kernel = 3, .padding = 1}), /*flat=*/true);
  const Edge q = g.linear("q", x, {.features = 6, .heads = 2});
  const Edge k = g.linear("k", x, {.features = 6, .heads = 2});
  const Edge v = g.linear("v", x, {.features = 6, .heads = 2});
  const Edge y = g.add(x, g.linear("out", g.attention("attention", q, k, v), {.features = 4}));
  const Edge coefficients = g.softmax(g.node("coefficient", "alpha", {}, Value::map(), {2}));
  const Edge mixed = g.node("weighted_sum", "mixed", {y, x, coefficients});
  return g.output(g.linear("logits", g.mean(g.layer_norm("norm", mixed)), {.features = 3}));
}

Graph search_sample() {
  GraphBuilder g({.channels = 2, .height = 6, .width = 6});
  const Edge x = g.relu(g.conv("stem", g.input(), {.filters = 4, .padding = 1}));
  const Edge y = g.batch_norm("bn", g.conv("conv", g.relu(x), {.filters = 4, .padding = 1, .bias = false}));
  g.unify({y, x});
  const Edge coefficients = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 1e-3}}), {2}));
  const Edge mixed = g.node("weighted_sum", "mixed", {y, x, coefficients});
  return g.output(g.linear("fc", g.global_avg_pool(mixed), {.features = 3}));
}

Graph blocks_sample() {
  GraphBuilder g({.channels = 2, .height = 6, .width = 6});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 4, .padding = 1, .bias = false})));
  for (const char* name : {"layer1.0", "layer1.1"}) {
    const auto scope = g.scope(name);
    const Edge y = g.relu(g.batch_norm("bn1", g.conv("conv1", x, {.filters = 5, .padding = 1, .bias = false})));
    x = g.relu(g.add(g.batch_norm("bn2", g.conv("conv2", y, {.filters = 4, .padding = 1, .bias = false})), x));
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

Graph large_sample() {
  GraphBuilder g({.channels = 1, .height = 16, .width = 16});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 16, .kernel = 3, .padding = 1})));
  x = g.relu(g.linear("fc1", g.flatten(x), {.features = 256}));
  return g.output(g.linear("fc2", x, {.features = 10}));
}

const std::vector<SampleNetwork>& sample_networks() {
  static const std::vector<SampleNetwork> networks = {{"a convolutional network", convolutional_sample},
                                                      {"a network with gates", gated_sample},
                                                      {"a network of attention", attention_sample},
                                                      {"a network of blocks", blocks_sample},
                                                      {"a search network", search_sample}};
  return networks;
}

void fill(const Graph& graph, Weights& weights) {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    at::Tensor t = weights[{static_cast<int32_t>(i)}];
    const at::Tensor u = uniform(t.sizes().vec(), -1, 1, RandomKey(5).with(p.name));
    const bool positive = p.kind == "running_var" || p.kind == "norm_weight" || p.kind == "gate";
    t.copy_(positive ? 1 + u / 2 : u + 0.2 * at::sign(u));
  }
}

void copy_all(const Weights& from, Weights& to, const std::string& who) {
  const c10::NoGradGuard no_grad;
  to.copy_from(from);
  for (const Role role : {Role::weight, Role::architecture}) {
    for (const auto& [name, arena] : from.bank(role).states) {
      const auto found = to.bank(role).states.find(name);
      expect(found != to.bank(role).states.end(), who + " registers the state '" + name + "'", "no such state");
      at::Tensor(found->second.flat()).copy_(arena.flat());
    }
  }
  to.counters() = from.counters();
}

void expect_same(const std::string& what, const Graph& graph, const Weights& expected, const Weights& got) {
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    const std::string& name = graph[p].name;
    expect_equal(what + ", '" + name + "'", expected[p], got[p]);
    if (graph[p].role == Role::buffer) continue;
    for (const StateSpec& s : expected.state_specs()) {
      expect(got.has_state(s.name), what + ", the state '" + s.name + "'", "no such state");
      expect_equal(what + ", the state '" + s.name + "' of '" + name + "'", expected.state(s.name, p),
                   got.state(s.name, p));
    }
  }
  for (const auto& [name, value] : expected.counters()) {
    const auto found = got.counters().find(name);
    expect(found != got.counters().end() && found->second == value,
           what + ", the counter '" + name + "': " + std::to_string(value),
           found == got.counters().end() ? "none" : std::to_string(found->second));
  }
}

std::vector<at::Tensor> copied_values(const Graph& graph, const Weights& weights) {
  std::vector<at::Tensor> values;
  for (size_t i = 0; i < graph.parameters().size(); ++i)
    values.push_back(weights[{static_cast<int32_t>(i)}].detach().clone());
  return values;
}

void expect_rest_unchanged(const std::string& what, const Graph& before, const std::vector<at::Tensor>& values,
                           const Graph& after, const Weights& weights, const std::vector<AxisChange>& changes) {
  for (size_t i = 0; i < before.parameters().size(); ++i) {
    const Parameter& p = before.parameters()[i];
    at::Tensor kept = values[i];
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (const auto from = gather(before, p.shape[d], changes))
        kept = kept.index_select(static_cast<int64_t>(d), at::tensor(*from, at::kLong));
    }
    expect_equal("what stays of '" + p.name + "' " + what, kept, weights[after.parameter(p.name)]);
  }
}

at::Tensor belongs_to(const Graph& graph, ParamId parameter, Axis axis, const Indices& positions) {
  const Parameter& p = graph[parameter];
  at::Tensor mask = at::zeros(graph.sizes(p.shape), at::kByte);
  for (size_t d = 0; d < p.shape.size(); ++d) {
    const Indices at = positions_of(graph, p.shape[d], axis, positions);
    if (!at.empty()) mask.index_fill_(static_cast<int64_t>(d), at::tensor(at, at::kLong), 1);
  }
  return mask;
}

std::vector<Axis> free_axes(const Graph& graph) {
  std::set<Axis> fixed;
  for (const Node& n : graph.nodes()) {
    if (n.op->type() != "weighted_sum") continue;
    for (const Segment& s : graph[n.inputs.back()].shape[0].segments) {
      for (const Factor& f : s.factors) fixed.insert(f.axis);
    }
  }
  std::vector<Axis> axes;
  for (size_t i = 0; i < graph.axes().size(); ++i) {
    const Axis a{static_cast<int32_t>(i)};
    if (!graph[a].fixed && graph[a].size > 1 && !fixed.contains(a)) axes.push_back(a);
  }
  return axes;
}

Indices kept_positions(int64_t size) {
  Indices keep;
  for (int64_t i = 0; i < size; ++i) {
    if (i % 3 != 1) keep.push_back(i);
  }
  return keep;
}

}  // namespace espalier
