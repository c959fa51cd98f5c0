#pragma once

#include <optional>
#include <string>
#include <vector>

#include "espalier/graph.h"
#include "espalier/weights.h"
#include "formats/safetensors.h"

namespace espalier {

// Exported forms of a graph against the graph itself, in evaluation. The inputs go by name; those of images are drawn.
// Each throws Error where values differ by more than rounding explains, naming the first node that gives others and its
// operation, and where the form cannot be carried out.

// Values for the inputs that outputs need: normal, three samples, always the same.
NamedTensors export_inputs(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs);

// `file`: of torchscript_of() with these outputs. In this process. The Python form is the same expressions.
void compare_torchscript(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs,
                         const NamedTensors& inputs, const std::string& file);
// `file`: of onnx_of() with these outputs. Gives the version of the ONNX Runtime that it was compared with; nothing
// where none is at hand.
std::optional<std::string> compare_onnx(const Graph& graph, const Weights& weights,
                                        const std::vector<std::string>& outputs, const NamedTensors& inputs,
                                        const std::string& file, int64_t opset);

}  // namespace espalier
