#pragma once

#include <string>

#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "train/augment.h"

namespace espalier {

// The network as a plain PyTorch module, with a loader of the model.safetensors beside it that needs PyTorch alone, and
// a main program that measures its accuracy on a test set in the IDX or CIFAR format. Throws Error for an operation
// without a Python form.
std::string python_model(const Graph& graph, const std::string& name, const DatasetInfo& info,
                         const Normalization& normalization, int64_t batch);

}  // namespace espalier
