#pragma once

#include <optional>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <espalier/operation.h>
#include <espalier/per_selector.h>
#include <espalier/regularizer.h>

#include "competition.h"

namespace espalier {

// R(a) = (sum_i a_i^p)^(1/p) of the coefficients of each group in which components compete (paper 004, (5) and the
// objectives of the applications). With p < 1 it is smallest, 1, where one coefficient has all, and n at equal ones for
// p = 1/2.
class CompetitionNorm final : public AutogradRegularizer {
 public:
  struct Options {
    PerSelector weight = 1e-3;
    double p = 0.5;

    static void declare(Declare<Options>& p) {
      p("weight", &Options::weight,
        "Factor lambda of the norm of each group; one number, or one for each selector of the free parameters, such as "
        "{layer1.*: 0.001, \"*\": 0.01}.");
      p("p", &Options::p, above(0), at_most(1),
        "Exponent of the norm. The smaller it is, the more few large coefficients are preferred; with 1 the norm of "
        "normalised coefficients is always 1.");
    }
  };
  explicit CompetitionNorm(Options o) : o_(std::move(o)) {}

  at::Tensor penalty(const Graph& graph, const Weights& weights) override {
    at::Tensor sum = at::zeros({}, at::TensorOptions().dtype(weights.dtype()).device(weights.device()));
    for (const Node& n : graph.nodes()) {
      const auto* competing = dynamic_cast<const Competing*>(n.op.get());
      const auto factor = competing ? value_for(o_.weight, graph, n.parameters.front()) : std::nullopt;
      if (factor) sum = sum + *factor * competing->norms(n, weights, o_.p).sum();
    }
    return sum;
  }

 private:
  Options o_;
};

}  // namespace espalier
