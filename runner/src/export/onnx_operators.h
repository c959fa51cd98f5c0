#pragma once

#include <cstddef>
#include <span>

namespace espalier {

// What an operator of ONNX takes, from one opset on until its next entry.
struct OnnxOperator {
  const char* name;
  int since;            // the opset
  size_t least_inputs;  // of these none may be left out
  size_t most_inputs;
  size_t most_outputs;     // 0: the operator is no longer there
  const char* attributes;  // "axis:i! pads:I": name:kind, with ! where it must be given. f, i, s: a number, an integer,
                           // a text; F, I: several; ?: what Espalier does not write
};

// All of them in the opsets 13 to 20, by name, then by opset.
std::span<const OnnxOperator> onnx_operators();

}  // namespace espalier
