#pragma once

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/rewrite.h"

// How the values of a parameter follow an edit.
namespace espalier {

// For each dimension, the old position of each new one (-1: new); nullopt: unchanged.
struct Moves {
  std::vector<std::optional<Indices>> from;
  bool has_new() const;
};
Moves moves(const Graph& before, const Rewrite& rewrite, const Shape& old, const Shape& now);

// to <- from, wherever the position is an old one. Both lie in arenas.
void copy_slices(const at::Tensor& to, const at::Tensor& from, const Moves& moves);

// All of a parameter's values, as if it began; old positions are overwritten afterwards.
void fill_new(const Graph& after, ParamId p, const Rewrite::Fill& fill, const Moves& moves, const at::Tensor& to);

// Makes the new filters (rows) orthogonal to the old ones and to each other, with the lengths that they have, as long
// as there are directions left.
void orthogonalize(const Parameter& p, const Moves& moves, const at::Tensor& values);

// In weights.cpp: what a parameter begins with, float64.
at::Tensor initial_values(const Graph& graph, const Parameter& p, RandomKey key);

}  // namespace espalier
