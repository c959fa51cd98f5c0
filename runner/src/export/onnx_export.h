#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "export/trained_network.h"

namespace espalier {

// Versions of ONNX's operators that can be written, and the one that is where nothing else is asked for.
constexpr int64_t onnx_opsets[] = {13, 17, 20};
constexpr int64_t onnx_opset = 20;

// Outputs of a graph in float32 as a file of ONNX: the inputs that they need, with the batch of any size, and the
// outputs, by their names in the graph. Its form is checked: operators that the opset has, with inputs and attributes
// that they take, values that are made before they are read. Throws Error for an operation without an ONNX form, naming
// the node for one with a wrong form, and for a network that does not fit into a file (2 GB).
std::string onnx_of(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs,
                    int64_t opset = onnx_opset, const std::string& doc = {},
                    const std::map<std::string, std::string>& metadata = {});
// The same of a network: input [batch, channels, height, width], output "logits"; the metadata of TrainedNetwork in
// metadata_props.
std::string onnx_model(const TrainedNetwork& network, int64_t opset = onnx_opset);

}  // namespace espalier
