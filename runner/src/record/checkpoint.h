#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "formats/safetensors.h"

namespace espalier {

// Parameters and buffers by name.
NamedTensors model_tensors(const Graph& graph, const Weights& weights);

// A run between two steps.
struct State {
  const Graph& graph;
  std::vector<std::pair<std::string, const Weights*>> weights;  // by name, "" for the network's own
  NamedTensors tensors;                                         // the trainer's own
  Value progress;                                               // the trainer's own
};

// What was at the path before goes to `keep` where that is given.
void save_checkpoint(const std::filesystem::path& path, const State& state, const std::filesystem::path& keep = {});

struct Checkpoint {
  std::filesystem::path path;
  Graph graph;
  Value progress;
  Value counters;                             // of each Weights by name
  std::map<std::string, at::Tensor> tensors;  // "parameter:NAME", "state:STATE:NAME", "NAME/parameter:..." of others

  // Sets parameters, buffers, counters and the states that the weights have registered. Throws InputError where one is
  // missing or of another shape, or with `all_states` where the checkpoint holds one that is not registered.
  void restore(Weights& weights, const std::string& name, bool all_states) const;
  // One of the trainer's own.
  at::Tensor tensor(const std::string& name) const;
};

// Throws InputError where the file is damaged, of another schema or no checkpoint.
Checkpoint load_checkpoint(const std::filesystem::path& path);

}  // namespace espalier
