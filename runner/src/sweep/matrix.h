#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "recipe/recipe.h"

namespace espalier {

// The most runs that a matrix may stand for.
inline constexpr size_t max_matrix_runs = 1000;

// One run of a matrix.
struct MatrixPoint {
  // "seed=0,weight=0.002", or "draw=7": of its folder; different from all others also where case does not count.
  std::string name;
  Value values;                 // a map: path, as --set takes it -> value
  std::optional<int64_t> draw;  // its number, from 0, in a matrix of random draws
};

// The runs of a recipe's `matrix`, in order: all combinations of a map of lists, the last key fastest, each map of a
// list, or random draws (sweep/draws.h). Empty where the recipe has no matrix. Throws InputError where the matrix is
// none; whether its paths and values fit the recipe is seen by for_each_run().
std::vector<MatrixPoint> matrix_points(const Value& tree);

// A column's or folder's name for each path: "weight" for stages.0.regularizers.0.weight, as long as it must be to be
// the only one.
std::vector<std::string> short_names(const std::vector<std::string>& paths);

// A value in a word: `lenet5`, `0.002`, `mlp-hidden-10`.
std::string short_text(const Value& value);

// The recipe with the point's values instead of the matrix. Throws InputError where a path leads nowhere, two of its
// paths lead to one place, or --set has set what the matrix varies.
Value recipe_at(const Value& tree, const MatrixPoint& point);

// Checks every point's recipe and hands it over, in order. What is thrown, by `use` too, names the run.
void for_each_run(const Value& tree, const std::vector<MatrixPoint>& points, const Registry& registry,
                  const std::function<void(const MatrixPoint&, const Recipe&)>& use);

}  // namespace espalier
