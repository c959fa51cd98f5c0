#include "constants.h"

#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include "espalier/onnx.h"

namespace espalier {

at::Tensor DeviceConstants::moved(const at::Tensor& t, at::Device device, at::ScalarType dtype) {
  // It may be made while something is evaluated and be saved for a backward pass later.
  const c10::InferenceMode normal(false);
  return at::isIntegralType(t.scalar_type(), /*includeBool=*/true) ? t.to(device, t.scalar_type(), false, true)
                                                                   : t.to(device, dtype, false, true);
}

at::Tensor integers(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}

std::string integers(OnnxNodes& to, const std::vector<int64_t>& values) {
  return to.constant(integers(values));
}

}  // namespace espalier
