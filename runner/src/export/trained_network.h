#pragma once

#include <map>
#include <string>

#include "data/scaling.h"
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
  const Scalings& scalings;
  int64_t batch = 1;  // of evaluations

  // By what a pixel's byte, or a feature, becomes the input: x * scale + shift, for each channel or feature, or one
  // number for all.
  struct Affine {
    std::vector<float> scale, shift;
  };
  Affine of_input() const;
  // By what an output becomes what was measured, where the targets were scaled: output * scale + shift; else empty.
  Affine of_output() const;
  bool takes_images() const { return info.input.height > 0 && info.input.nodes == 0; }

  // What a user of the bare network needs besides, as JSON values: scale and shift, by which a pixel's byte (or a
  // feature) becomes the input (x * scale + shift, per channel), which is not part of the network; output_scale and
  // output_shift, where the targets were scaled; classes, how many, or outputs and the task; class_names, where they
  // are known, by number; preparation, where images have to be resized and cropped first.
  std::map<std::string, std::string> metadata() const;
};

// "[0.5, 0.25]", so that it can be read back exactly.
std::string number_list(const std::vector<float>& values);

}  // namespace espalier
