#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace espalier {

// What ONNX Runtime computes, in a process of its own: that of the Python in $ESPALIER_PYTHON, or else of the python3
// on PATH.
struct OnnxResult {
  std::vector<at::Tensor> outputs;  // float32, in the order in which they were asked for
  std::string version;              // of ONNX Runtime
};

// Nothing where there is no such Python, or it has no onnxruntime. Throws Error with what ONNX Runtime says of a file
// that it does not take.
std::optional<OnnxResult> run_onnx(const std::string& file, const NamedTensors& inputs,
                                   const std::vector<std::string>& outputs);

}  // namespace espalier
