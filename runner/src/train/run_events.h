#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "espalier/graph.h"
#include "espalier/value.h"
#include "espalier/weights.h"

namespace espalier {

// What TensorBoard is told of a run beside its metrics, as records of its event file.

// The recipe, as a text and as hyper-parameters; results: the tags of the scalars that they are compared by.
std::string events_of_start(const Value& recipe, const std::vector<std::string>& results);

// That a stage begins.
std::string events_of_stage(int64_t step, const std::string& name, int64_t epochs);

// The learning rate of each optimizer, lr/OPTIMIZER, and what each regularizer adds to the loss in the mean of an
// epoch, penalty/REGULARIZER.
std::string events_of_epoch(int64_t step, const std::vector<std::pair<std::string, double>>& rates,
                            const std::vector<std::pair<std::string, double>>& penalties);

// How wide each layer is (the scalars widths/LAYER), and a histogram of the values of each parameter.
std::string events_of_network(int64_t step, const Graph& graph, const Weights& weights);

}  // namespace espalier
