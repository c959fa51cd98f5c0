#include "export/export_checks.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "export/network_source.h"
#include "export/onnx_export.h"
#include "export/onnx_runtime.h"
#include "export/torchscript_export.h"
#include "system/text.h"

namespace espalier {

namespace {

constexpr int64_t samples = 3;
// Of the largest value. What rounding does to the network itself is added.
constexpr double tolerance = 1e-4;

using Outputs = std::vector<std::string>;
using Tensors = std::vector<at::Tensor>;

Tensors values_of(const Graph& graph, const Weights& weights, const Outputs& outputs, const NamedTensors& inputs) {
  const c10::NoGradGuard no_grad;
  NamedTensors fed;
  for (const auto& [name, value] : inputs)
    fed.emplace_back(name,
                     value.to(weights.device(), value.is_floating_point() ? weights.dtype() : value.scalar_type()));
  const std::vector<std::string_view> names(outputs.begin(), outputs.end());
  return run(graph, weights, fed, names, {.training = false, .key = RandomKey(), .fuse = false});
}

void copy(const Graph& graph, const Weights& from, Weights& to) {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    to[p].detach().copy_(from[p].detach());
  }
}

// Of the largest expected value. Infinite and undefined values are equal where both are so.
double difference(const at::Tensor& expected, const at::Tensor& got) {
  const at::Tensor a = expected.to(at::kCPU, at::kDouble), b = got.to(at::kCPU, at::kDouble);
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  if (a.numel() == 0 || a.allclose(b, 0, 0, /*equal_nan=*/true)) return 0;
  const double largest = a.abs().max().item<double>(), apart = (a - b).abs().max().item<double>();
  if (!std::isfinite(apart)) return std::numeric_limits<double>::infinity();
  return apart / std::max(largest, std::numeric_limits<double>::min());
}

struct Expected {
  Tensors values;               // as the network's own arithmetic has them
  std::vector<double> allowed;  // for each

  Expected(const Graph& graph, const Weights& weights, const Outputs& outputs, const NamedTensors& inputs)
      : values(values_of(graph, weights, outputs, inputs)) {
    Weights exact(graph, at::kDouble, at::kCPU);
    copy(graph, weights, exact);
    const Tensors precise = values_of(graph, exact, outputs, inputs);
    for (size_t i = 0; i < values.size(); ++i)
      allowed.push_back(tolerance + 10 * std::min(1e-2, difference(precise[i], values[i])));
  }
};

std::string sizes_text(const at::Tensor& t) {
  return to_string(t.sizes().vec());
}

// What differs; empty: nothing.
std::string told_apart(const Expected& expected, const Tensors& got, size_t i) {
  if (i >= got.size()) return "is missing";
  if (expected.values[i].sizes() != got[i].sizes())
    return "is " + sizes_text(got[i]) + " there and " + sizes_text(expected.values[i]) + " in the network";
  const double d = difference(expected.values[i], got[i]);
  if (d <= expected.allowed[i]) return {};
  return "differs by " + scientific(d) + " of its largest value, and rounding explains " +
         scientific(expected.allowed[i]);
}

// Gives the values of other outputs of a graph.
using Form = std::function<Tensors(const Graph&, const Outputs&)>;

// The first node whose values differ, with what differs; empty where each for itself agrees.
std::string first_fault(const Graph& graph, const Weights& weights, const Outputs& outputs, const NamedTensors& inputs,
                        const Form& form) {
  Graph all = graph;
  Outputs names;
  std::vector<const Node*> makers;
  for (const Node* n : nodes_for(graph, outputs)) {
    for (const Edge e : n->outputs) {
      names.push_back("espalier.edge" + std::to_string(e.id));
      makers.push_back(n);
      all.add_output(names.back(), e);
    }
  }
  const Expected expected(all, weights, names, inputs);
  const Tensors got = form(all, names);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string what = told_apart(expected, got, i);
    if (!what.empty()) return "node '" + makers[i]->name + "' (operation '" + makers[i]->op->type() + "'): it " + what;
  }
  return {};
}

void compare(const std::string& name, const Graph& graph, const Weights& weights, const Outputs& outputs,
             const NamedTensors& inputs, const Tensors& got, const Form& form) {
  const Expected expected(graph, weights, outputs, inputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string what = told_apart(expected, got, i);
    if (what.empty()) continue;
    const std::string fault = first_fault(graph, weights, outputs, inputs, form);
    throw Error("the " + name + " form gives other values than the network: " +
                (fault.empty() ? "the output '" + outputs[i] + "' " + what : fault));
  }
}

}  // namespace

NamedTensors export_inputs(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs) {
  NamedTensors inputs;
  for (const Port& port : inputs_for(graph, outputs)) {
    std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
    sizes.insert(sizes.begin(), samples);
    inputs.emplace_back(port.name, normal(sizes, 1, RandomKey(1).with(port.name)).to(weights.dtype()));
  }
  return inputs;
}

void compare_torchscript(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs,
                         const NamedTensors& inputs, const std::string& file) {
  const auto in_order = [&](const Graph& g, const Outputs& wanted) {
    Tensors values;
    for (const Port& port : inputs_for(g, wanted)) {
      const auto found = std::ranges::find(inputs, port.name, &NamedTensors::value_type::first);
      values.push_back(found->second);
    }
    return values;
  };
  compare("TorchScript", graph, weights, outputs, inputs, run_torchscript(file, in_order(graph, outputs)),
          [&](const Graph& g, const Outputs& wanted) {
            return run_torchscript(torchscript_of(g, weights, wanted), in_order(g, wanted));
          });
}

std::optional<std::string> compare_onnx(const Graph& graph, const Weights& weights,
                                        const std::vector<std::string>& outputs, const NamedTensors& inputs,
                                        const std::string& file, int64_t opset) {
  const auto needed = [&](const Graph& g, const Outputs& wanted) {
    NamedTensors some;
    for (const Port& port : inputs_for(g, wanted)) {
      const auto found = std::ranges::find(inputs, port.name, &NamedTensors::value_type::first);
      some.emplace_back(port.name, found->second.is_floating_point() ? found->second.to(at::kFloat) : found->second);
    }
    return some;
  };
  const std::optional<OnnxResult> result = run_onnx(file, needed(graph, outputs), outputs);
  if (!result) return std::nullopt;
  compare("ONNX", graph, weights, outputs, inputs, result->outputs, [&](const Graph& g, const Outputs& wanted) {
    return run_onnx(onnx_of(g, weights, wanted, opset), needed(g, wanted), wanted)->outputs;
  });
  return result->version;
}

}  // namespace espalier
