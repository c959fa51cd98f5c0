#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/execute.h"
#include "espalier/graph.h"
#include "espalier/operation.h"
#include "espalier/random.h"
#include "espalier/registry.h"
#include "espalier/rewrite.h"
#include "espalier/weights.h"

// Operations in the smallest graphs that they can be part of, with made-up values.
namespace espalier {

// Inputs that operations take.
struct OperationInputs {
  const char* what;
  std::vector<Edge> (*add)(Graph&);
};
// The plainest first.
const std::vector<OperationInputs>& operation_inputs();

// An operation in a graph.
struct OperationTrial {
  OperationTrial(Graph g, size_t n) : graph(std::move(g)), node(n) {}
  const Node& the_node() const { return graph.nodes()[node]; }
  const Operation& operation() const { return *the_node().op; }

  Graph graph;
  size_t node;
};
// With the first of the inputs that it takes. Throws CheckSkipped where it takes none.
OperationTrial operation_trial(const Registered& r);
// With these inputs; none where it does not take them.
std::optional<OperationTrial> operation_trial(const Registered& r, const OperationInputs& inputs);

std::shared_ptr<const Operation> builtin_operation(const char* type, Value options = Value::map());

// Values for all inputs of a graph.
NamedTensors feed(const Graph& g, int64_t batch, at::ScalarType dtype);
std::vector<at::Tensor> outputs_of(const Graph& g, const Weights& w, const NamedTensors& fed, const Pass& pass);
// Weights with the values of fill().
struct FilledWeights {
  FilledWeights(const Graph& g, at::ScalarType dtype);
  Weights weights;
};
// The key of every pass.
inline const RandomKey trial_key(3);
// The outputs for five samples.
std::vector<at::Tensor> values_of(const Graph& g, const Weights& w, bool training, bool fuse = true,
                                  const std::vector<AxisChange>* without = nullptr);
// A number that depends on all outputs.
at::Tensor mixed(const std::vector<at::Tensor>& outputs);

}  // namespace espalier
