#pragma once

#include <string>

#include "export/trained_network.h"

namespace espalier {

// The network as a plain PyTorch module, built of PyTorch's own where operations have one (nn.Conv2d, nn.Linear), with
// a loader of the safetensors file beside it that needs PyTorch alone, and a main program that measures its accuracy on
// a test set in the IDX or CIFAR format. Throws Error for an operation without a Python form, and for one whose module
// is no Python.
std::string python_model(const TrainedNetwork& network);

}  // namespace espalier
