#pragma once

#include <string>

#include "output/trained_network.h"

namespace espalier {

// The network as a file of TorchScript, in evaluation mode, for torch.jit.load; parameters and buffers have the names
// of the safetensors file. The metadata of TrainedNetwork lies beside it as extra files. Throws Error for an operation
// without a Python form, or with one that is no TorchScript.
std::string torchscript_model(const TrainedNetwork& network);

}  // namespace espalier
