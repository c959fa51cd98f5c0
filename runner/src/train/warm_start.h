#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "output/safetensors.h"
#include "recipe/recipe.h"

namespace espalier {

// Fills all parameters and buffers with the tensors of these names. Throws InputError naming the file and everything
// that does not match: names that one side lacks, and shapes.
void set_values(const Graph& graph, Weights& weights, const NamedTensors& tensors, const std::filesystem::path& file);

// The same as a recipe describes it: the file's names are rewritten first, and with `partial` what does not match is
// left as it is and returned, a line each, as are patterns that are in no name. Without weights nothing is filled.
// What else is to be said of the file goes to `notes`. Throws InputError at the recipe's place.
std::vector<std::string> warm_start(const WarmStart& start, const Graph& graph, Weights* weights,
                                    std::vector<std::string>& notes);

}  // namespace espalier
