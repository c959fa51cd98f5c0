#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "output/safetensors.h"

namespace espalier {

// Parameters and buffers by name.
NamedTensors model_tensors(const Graph& graph, const Weights& weights);

// A network between two steps: graph, parameters, buffers, states, counters, and whatever the trainer adds to
// `progress`.
void save_checkpoint(const std::filesystem::path& path, const Graph& graph, const Weights& weights,
                     const Value& progress);

struct Checkpoint {
  Graph graph;
  Value progress;
  std::map<std::string, double> counters;
  std::map<std::string, at::Tensor> tensors;  // "parameter:NAME", "state:STATE:NAME"

  // Sets parameters, buffers and counters; states go to those that the weights have registered. Throws InputError where
  // one is missing or of another shape.
  void restore(Weights& weights) const;
  std::filesystem::path path;
};

Checkpoint load_checkpoint(const std::filesystem::path& path);

}  // namespace espalier
