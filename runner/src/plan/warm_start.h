#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "formats/safetensors.h"
#include "recipe/recipe.h"

namespace espalier {

// Fills all parameters and buffers with the tensors of these names. Throws InputError naming the file and everything
// that does not match: names that one side lacks, and shapes.
void set_values(const Graph& graph, Weights& weights, const NamedTensors& tensors, const std::filesystem::path& file);

// How much of a network begins with earlier values.
struct Loaded {
  int64_t tensors = 0, of_tensors = 0;  // parameters and buffers
  int64_t numbers = 0, of_numbers = 0;  // their elements
  std::vector<std::string> rest;        // what does not match, a line each: names, shapes, patterns that are in no name
  std::string layout;                   // the table that the file was read by; empty: its names are the network's
  std::vector<std::string> mapping;     // the table's rows that were used, with how many tensors of the file
  std::vector<std::string> left_out;    // parameters of the classifier that begin anew

  // "7 of 8 tensors (430,080 of 431,080 numbers)", "all 8 tensors (431,080 numbers)"
  std::string str() const;
};

// The same as a recipe describes it: the file's names are rewritten first, and with `partial` what does not match is
// left as it is. Without weights nothing is filled. Throws InputError at the recipe's place, also where with `partial`
// no weight of a layer is left that matches.
Loaded warm_start(const WarmStart& start, const Graph& graph, Weights* weights);

// A file of other programs holds names, shapes and values, and not how the values are to be computed with: this says
// how the network does it (epsilon of norms, padding, strides, dilation, activations). Empty where the values are a
// run's, and where there is nothing of the kind in the network.
std::string unseen_in_file(const WarmStart& start, const Graph& graph, const std::string& backbone);

}  // namespace espalier
