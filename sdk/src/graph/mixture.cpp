#include "espalier/mixture.h"

#include <c10/core/GradMode.h>

#include "edits/draft.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/operation.h"

namespace espalier {

Mixture::~Mixture() = default;
HoldsValue::~HoldsValue() = default;
SparseMatrix::~SparseMatrix() = default;

std::vector<MixtureTerm> mixture_terms(const Graph& graph) {
  std::vector<MixtureTerm> terms;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    const auto* mixture = dynamic_cast<const Mixture*>(node.op.get());
    if (!mixture) continue;
    const Edge coefficients = node.inputs.back();
    const int64_t columns = graph.size(graph[coefficients].shape.back());
    const Indices positions = mixture->components(graph, node);
    for (size_t i = 0; i < positions.size(); ++i) {
      terms.push_back({.node = static_cast<int32_t>(n),
                       .input = i,
                       .producer = graph[node.inputs[i]].producer,
                       .coefficients = coefficients,
                       .row = positions[i] / columns,
                       .column = positions[i] % columns});
    }
  }
  return terms;
}

at::Tensor coefficient_values(const Graph& graph, const Weights& weights, Edge coefficients) {
  if (depends_on_input(graph)[static_cast<size_t>(coefficients.id)])
    throw Error("the coefficients '" + graph[coefficients].name + "' depend on the sample: they have no single value");
  const c10::NoGradGuard no_grad;
  constexpr char name[] = "coefficients";
  Graph with = graph;
  std::string output = name;
  while (with.find_output(output)) output += "_";
  with.add_output(output, coefficients);
  return run(with, weights, {}, {output}).front().squeeze(0).to(at::kCPU, at::kDouble);
}

}  // namespace espalier
