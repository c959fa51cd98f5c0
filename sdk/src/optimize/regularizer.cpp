#include "espalier/regularizer.h"

#include "espalier/controller.h"
#include "espalier/error.h"

namespace espalier {

Run::~Run() = default;

void AutogradRegularizer::add(const Graph& graph, Weights& weights, at::Tensor& value) {
  const at::Tensor p = penalty(graph, weights);
  if (p.numel() != 1) throw Error("a penalty must be a scalar, got " + to_string(p.sizes().vec()));
  // A network may have nothing that the penalty is for, such as gates that come with a later stage.
  if (p.requires_grad()) p.backward();
  value.add_(p.detach().to(at::kDouble).reshape({}));
}

}  // namespace espalier
