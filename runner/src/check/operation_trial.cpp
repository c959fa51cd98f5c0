#include "check/operation_trial.h"

#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/backbone.h"
#include "espalier/random_fill.h"

namespace espalier {

std::shared_ptr<const Operation> builtin_operation(const char* type, Value options) {
  options["use"] = type;
  return Registry::instance().create<Operation>(options);
}

namespace {

Dim constant(int64_t n) {
  return Dim::of(n);
}

// An input of fixed widths, and a layer that makes the wanted ones from it, so that edits have something to act on.
Edge layer(Graph& g, const std::string& name, Shape input, const char* type, Value options, std::vector<Axis> made) {
  const Edge in = g.add_input("input." + name, std::move(input));
  const int32_t node = g.add_node(name, builtin_operation(type, std::move(options)), {in}, std::move(made));
  return g.nodes()[static_cast<size_t>(node)].outputs[0];
}
Dim given(Graph& g, const std::string& name, int64_t size) {
  return Dim::of(g.add_axis("input." + name, size, /*fixed=*/true));
}
Edge image(Graph& g, const std::string& name, Axis channels) {
  return layer(g, name, {given(g, name, 2), constant(6), constant(6)}, "conv2d", Value::map({{"kernel", 1}}),
               {channels});
}
Edge vector(Graph& g, const std::string& name, Axis features) {
  return layer(g, name, {given(g, name, 3)}, "linear", Value::map(), {features});
}
Edge tokens(Graph& g, const std::string& name, std::vector<Axis> channels) {
  return layer(g, name, {constant(7), given(g, name, 3)}, "linear", Value::map(), std::move(channels));
}
Edge grid(Graph& g, const std::string& name, std::vector<Axis> channels) {
  return layer(g, name, {constant(7), constant(7), given(g, name, 3)}, "linear", Value::map(), std::move(channels));
}
Edge coefficients(Graph& g, Axis axis) {
  const int32_t node = g.add_node("coefficients", builtin_operation("coefficient"), {}, {axis});
  return g.nodes()[static_cast<size_t>(node)].outputs[0];
}

const std::vector<OperationInputs> known_inputs = {
    {"an image", [](Graph& g) { return std::vector{image(g, "x", g.add_axis("a", 4))}; }},
    {"a vector", [](Graph& g) { return std::vector{vector(g, "x", g.add_axis("a", 5))}; }},
    {"tokens", [](Graph& g) { return std::vector{tokens(g, "x", {g.add_axis("a", 6)})}; }},
    {"a grid of tokens", [](Graph& g) { return std::vector{grid(g, "x", {g.add_axis("a", 6)})}; }},
    {"two images",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 4);
       return std::vector{image(g, "x", a), image(g, "y", a)};
     }},
    {"two vectors",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 5);
       return std::vector{vector(g, "x", a), vector(g, "y", a)};
     }},
    {"two of tokens",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 6);
       return std::vector{tokens(g, "x", {a}), tokens(g, "y", {a})};
     }},
    {"an image and a coefficient for each channel",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 4);
       return std::vector{image(g, "x", a), coefficients(g, a)};
     }},
    {"an image and a vector of as many",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 4);
       return std::vector{image(g, "x", a), vector(g, "s", a)};
     }},
    {"two images and a coefficient for each",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 4);
       return std::vector{image(g, "x", a), image(g, "y", a), coefficients(g, g.add_axis("terms", 2, /*fixed=*/true))};
     }},
    {"two images and a vector of two",
     [](Graph& g) {
       const Axis a = g.add_axis("a", 4);
       return std::vector{image(g, "x", a), image(g, "y", a), vector(g, "s", g.add_axis("terms", 2, /*fixed=*/true))};
     }},
    {"tokens and a matrix between them",
     [](Graph& g) {
       return std::vector{tokens(g, "x", {g.add_axis("a", 6)}), g.add_input("matrix", {constant(7), constant(7)})};
     }},
    {"queries, keys and values",
     [](Graph& g) {
       const std::vector<Axis> a{g.add_axis("heads", 3), g.add_axis("a", 4)};
       return std::vector{tokens(g, "q", a), tokens(g, "k", a), tokens(g, "v", a)};
     }},
    {"a grid of queries, keys and values",
     [](Graph& g) {
       const std::vector<Axis> a{g.add_axis("heads", 3), g.add_axis("a", 4)};
       return std::vector{grid(g, "q", a), grid(g, "k", a), grid(g, "v", a)};
     }},
    {"logits and a class",
     [](Graph& g) {
       return std::vector{vector(g, "x", g.add_axis("a", 5)), g.add_input("class", {})};
     }},
    {"nothing", [](Graph&) { return std::vector<Edge>{}; }},
};
constexpr size_t most_made = 3;  // axes that an operation makes
constexpr int64_t made_size = 3;

std::optional<OperationTrial> try_inputs(const Registered& r, const OperationInputs& inputs, std::string& why) {
  for (size_t made = 0; made <= most_made; ++made) {
    Graph g;
    try {
      const std::vector<Edge> x = inputs.add(g);
      std::vector<Axis> axes;
      for (size_t i = 0; i < made; ++i) axes.push_back(g.add_axis("made" + std::to_string(i), made_size));
      const int32_t n = g.add_node("node", make_example<Operation>(r), x, std::move(axes));
      const std::vector<Edge> outputs = g.nodes()[static_cast<size_t>(n)].outputs;
      expect(!outputs.empty(), "build() declares an output", "none");
      for (size_t i = 0; i < outputs.size(); ++i) g.add_output("y" + std::to_string(i), outputs[i]);
      return OperationTrial(std::move(g), static_cast<size_t>(n));
    } catch (const CheckFailure&) {
      throw;
    } catch (const Error& e) {
      if (why.empty()) why = e.what();
    }
  }
  return std::nullopt;
}

// The first node with the operation in a backbone of the same plugin, with the inputs and options that it has there.
std::optional<OperationTrial> in_a_backbone(const Registered& r) {
  const InputSpec inputs[] = {{3, 16, 16}, {1, 28, 28}, {3, 32, 32}, {8, 0, 0}};
  for (const Registered* b : Registry::instance().all()) {
    if (b->component.kind != Backbone::kind || b->origin.path != r.origin.path) continue;
    for (const InputSpec& input : inputs) {
      try {
        const Graph whole = make_example<Backbone>(*b)->build(input, {.outputs = 3});
        for (size_t n = 0; n < whole.nodes().size(); ++n) {
          const Node& node = whole.nodes()[n];
          if (node.op->type() != r.component.name) continue;
          Value alone = whole.to_value();
          alone["outputs"] = Value::map();
          Graph g = Graph::from_value(alone);
          for (size_t i = 0; i < node.outputs.size(); ++i) g.add_output("y" + std::to_string(i), node.outputs[i]);
          return OperationTrial(std::move(g), n);
        }
      } catch (const Error&) {  // it is for other inputs
      }
    }
  }
  return std::nullopt;
}

}  // namespace

const std::vector<OperationInputs>& operation_inputs() {
  return known_inputs;
}

std::optional<OperationTrial> operation_trial(const Registered& r, const OperationInputs& inputs) {
  std::string why;
  return try_inputs(r, inputs, why);
}

OperationTrial operation_trial(const Registered& r) {
  std::string why;
  for (const OperationInputs& inputs : known_inputs) {
    if (std::optional<OperationTrial> t = try_inputs(r, inputs, why)) return std::move(*t);
  }
  if (std::optional<OperationTrial> t = in_a_backbone(r)) return std::move(*t);
  throw CheckSkipped(
      "it takes none of the inputs that are tried, with its defaults, and no backbone of its plugin has "
      "it; of an image: " +
      why);
}

NamedTensors feed(const Graph& g, int64_t batch, at::ScalarType dtype) {
  NamedTensors fed;
  for (const Port& p : g.inputs()) {
    std::vector<int64_t> sizes = g.sizes(g[p.edge].shape);
    sizes.insert(sizes.begin(), batch);
    fed.emplace_back(p.name, p.name == "class" ? at::zeros(sizes, at::kLong)
                                               : normal(sizes, 1, RandomKey(2).with(p.name)).to(dtype));
  }
  return fed;
}

std::vector<at::Tensor> outputs_of(const Graph& g, const Weights& w, const NamedTensors& fed, const Pass& pass) {
  std::vector<std::string_view> names;
  for (const Port& p : g.outputs()) names.push_back(p.name);
  return run(g, w, fed, names, pass);
}

FilledWeights::FilledWeights(const Graph& g, at::ScalarType dtype) : weights(g, dtype, at::kCPU) {
  fill(g, weights);
}

std::vector<at::Tensor> values_of(const Graph& g, const Weights& w, bool training, bool fuse,
                                  const std::vector<AxisChange>* without) {
  const c10::NoGradGuard no_grad;
  return outputs_of(g, w, feed(g, 5, w.dtype()),
                    {.training = training, .key = trial_key, .fuse = fuse, .without = without});
}

// A number that depends on all outputs.
at::Tensor mixed(const std::vector<at::Tensor>& outputs) {
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const at::Tensor& y = outputs[i];
    if (!y.is_floating_point()) continue;
    sum = sum + (y * normal(y.sizes().vec(), 1, RandomKey(9).with(i))).sum();
  }
  return sum;
}

}  // namespace espalier
