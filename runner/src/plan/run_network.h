#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "espalier/graph.h"
#include "formats/safetensors.h"

namespace espalier {

// The network of a run.
struct RunNetwork {
  Graph graph;
  NamedTensors tensors;        // parameters and buffers by name
  size_t stages = SIZE_MAX;    // of the recipe, begun; SIZE_MAX: all
  std::filesystem::path from;  // the file that the tensors are of
};

// The network of a finished run, or of a folder with its graph.json and model.safetensors, that is to teach. Throws
// InputError naming the folder if there is none.
RunNetwork read_teacher(const std::filesystem::path& folder);

// which: "last" (as the run ended, or of its last good checkpoint where it has not), "previous" or "best" (those
// checkpoints). Throws InputError where there is none, naming the run.
RunNetwork read_run_network(const std::filesystem::path& run, const std::string& which);

}  // namespace espalier
