#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "export/trained_network.h"

namespace espalier {

// Outputs of a graph as a file of TorchScript, in evaluation mode, for torch.jit.load; parameters and buffers have the
// names of the safetensors file. `metadata` lies beside it as extra files. Throws Error for an operation without a
// Python form, and naming the node for one whose form is no TorchScript.
std::string torchscript_of(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs,
                           const std::map<std::string, std::string>& metadata = {});
// The same of a network's logits.
std::string torchscript_model(const TrainedNetwork& network);

// What such a file gives for the inputs, those that it needs, in the graph's order. Throws Error with what TorchScript
// says.
std::vector<at::Tensor> run_torchscript(const std::string& file, const std::vector<at::Tensor>& inputs);

// What is wrong with the form of an expression of Python; empty: nothing.
std::string python_fault(const std::string& expression);

}  // namespace espalier
