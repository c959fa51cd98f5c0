#pragma once

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "builtin.h"
#include "fast_cpu.h"

namespace espalier {

// A term of a mixture: what there is of it before its coefficient.
struct MixedTerm {
  enum class Kind { zero, plain, norm };
  Kind kind = Kind::plain;
  at::Tensor x{};   // plain: the term; norm: what is normalised
  NormTerm norm{};  // of Kind::norm
};

// An operation whose node a mixture may compute together with its sum.
class AsTerm {
 public:
  virtual ~AsTerm() = default;
  // Returns the term that the node is; nothing if it must be computed by itself.
  virtual std::optional<MixedTerm> as_term(const Forward& f) const = 0;
};

// An operation that may compute the nodes that it reads together with itself.
class OfTerms {
 public:
  virtual ~OfTerms() = default;
  // Returns whether it does so with this last input, which holds coefficients.
  virtual bool takes_terms(const at::Tensor& coefficients) const = 0;
  // Computes the node. producers: for each input the node, AsTerm, that is still to be computed from what stands in
  // f.inputs in its place (its own first input); null where f.inputs has the input itself.
  virtual at::Tensor forward_terms(const Forward& f, const std::vector<const Node*>& producers) const = 0;
};

// Returns the sum of the terms, each times its coefficient. Differentiable once, with respect to everything. All x that
// count are float32 on the CPU, [batch, channels, height, width] in channels_last order or [batch, features].
// coefficients: [terms], float32 on the CPU. Undefined where a term must be normalised by running statistics while
// gradients are recorded, or where all terms are zero.
at::Tensor fast_mixture(const std::vector<MixedTerm>& terms, const at::Tensor& coefficients);

}  // namespace espalier
