#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/api.h"

namespace espalier {

// What an operation writes its ONNX form with. Values go by name, and the batch is the first dimension.
class ESPALIER_API OnnxNodes {
 public:
  // The value of an attribute.
  using Attribute = std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;
  // Attributes by name.
  using Attributes = std::vector<std::pair<std::string, Attribute>>;

  virtual ~OnnxNodes();
  // Returns the version of ONNX's operators that the file is for: 13, 17 or 20. An operator that is newer must be
  // written as others that the version has.
  virtual int64_t opset() const = 0;
  // Returns the type of the network's values.
  virtual at::ScalarType dtype() const = 0;
  // Returns the name of the i-th input of the node.
  virtual std::string input(size_t i) const = 0;
  // Returns the name of the i-th parameter or buffer that the operation declared.
  virtual std::string parameter(size_t i) = 0;
  // Returns the values of that parameter, for forms that need them cut or reordered.
  virtual at::Tensor values(size_t i) const = 0;
  // Adds a constant and returns its name. Integers of any width are written as int64, truth values as bool, all other
  // numbers as float.
  virtual std::string constant(const at::Tensor& value) = 0;
  // Adds a node of ONNX and returns the names of its first `outputs` outputs.
  virtual std::vector<std::string> add(const std::string& type, const std::vector<std::string>& inputs, size_t outputs,
                                       const Attributes& attributes) = 0;
  // Adds a node of ONNX and returns the name of its first output.
  std::string add(const std::string& type, const std::vector<std::string>& inputs, const Attributes& attributes = {}) {
    return add(type, inputs, 1, attributes).front();
  }
};

}  // namespace espalier
