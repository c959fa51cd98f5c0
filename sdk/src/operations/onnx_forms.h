#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

class OnnxNodes;

// The mean over these dimensions, the batch being the first: ReduceMean, which takes them as an input from opset 18 on
// and as an attribute before. keep: they stay, with one position each.
std::string onnx_mean(OnnxNodes& to, const std::string& x, const std::vector<int64_t>& dims, bool keep);

// x less its mean over these dimensions, divided by the square root of its variance there plus eps.
std::string onnx_normalized(OnnxNodes& to, const std::string& x, const std::vector<int64_t>& dims, double eps);

}  // namespace espalier
