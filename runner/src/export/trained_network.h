#pragma once

#include <map>
#include <string>

#include "data/augment.h"
#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "espalier/weights.h"

namespace espalier {

// What an export needs to know of a network.
struct TrainedNetwork {
  const std::string& name;
  const Graph& graph;
  const Weights& weights;
  const DatasetInfo& info;
  const Normalization& normalization;
  int64_t batch = 1;  // of evaluations

  // What a user of the bare network needs besides, as JSON values: scale and shift, by which a pixel's byte becomes the
  // input (byte * scale + shift, per channel), which is not part of the network; classes, how many; class_names, where
  // they are known, by number; preparation, where images have to be resized and cropped first.
  std::map<std::string, std::string> metadata() const;
};

// "[0.5, 0.25]", so that it can be read back exactly.
std::string number_list(const float* values, int64_t count);

}  // namespace espalier
