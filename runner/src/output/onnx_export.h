#pragma once

#include <string>

#include "output/trained_network.h"

namespace espalier {

// The network in float32 as a file of ONNX (opset 20, IR version 10): input [batch, channels, height, width], output
// "logits", the batch of any size; the metadata of TrainedNetwork in metadata_props. Throws Error for an operation
// without an ONNX form, and for a network that does not fit into a file (2 GB).
std::string onnx_model(const TrainedNetwork& network);

}  // namespace espalier
