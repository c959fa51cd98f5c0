#include "onnx_forms.h"

#include <ATen/ops/scalar_tensor.h>

#include "constants.h"
#include "espalier/onnx.h"

namespace espalier {

std::string onnx_mean(OnnxNodes& to, const std::string& x, const std::vector<int64_t>& dims, bool keep) {
  const OnnxNodes::Attribute kept = int64_t{keep};
  if (to.opset() < 18) return to.add("ReduceMean", {x}, {{"axes", dims}, {"keepdims", kept}});
  return to.add("ReduceMean", {x, integers(to, dims)}, {{"keepdims", kept}});
}

std::string onnx_normalized(OnnxNodes& to, const std::string& x, const std::vector<int64_t>& dims, double eps) {
  const std::string centred = to.add("Sub", {x, onnx_mean(to, x, dims, /*keep=*/true)});
  const std::string variance = onnx_mean(to, to.add("Mul", {centred, centred}), dims, /*keep=*/true);
  const std::string sum = to.add("Add", {variance, to.constant(at::scalar_tensor(eps, at::kFloat))});
  return to.add("Div", {centred, to.add("Sqrt", {sum})});
}

}  // namespace espalier
