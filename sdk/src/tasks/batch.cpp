#include "espalier/batch.h"

#include <algorithm>

#include "espalier/dataset.h"
#include "espalier/error.h"
#include "espalier/run.h"
#include "espalier/value.h"

namespace espalier {

const at::Tensor* find_tensor(const NamedTensors& tensors, std::string_view name) {
  for (const auto& [other, tensor] : tensors) {
    if (other == name) return &tensor;
  }
  return nullptr;
}

const at::Tensor& tensor_at(const NamedTensors& tensors, std::string_view name, std::string_view what) {
  if (const at::Tensor* found = find_tensor(tensors, name)) return *found;
  std::string known;
  for (const auto& [other, tensor] : tensors) known += (known.empty() ? "" : ", ") + other;
  throw Error("there is no " + std::string(what) + " '" + std::string(name) + "'" +
              (known.empty() ? "" : "; there are: " + known));
}

void Samples::read(int64_t, bool, RandomKey, uint8_t*) const {
  throw Error("this data set's images differ in size, so they are read by Samples::sample()");
}

Sample Samples::sample(int64_t, bool, RandomKey) const {
  throw Error("this data set's images have one size, so they are read by Samples::read()");
}

int64_t Split::size() const {
  if (samples) return samples->size();
  return inputs.empty() ? 0 : inputs.front().second.size(0);
}

const at::Tensor& Split::input() const {
  static const at::Tensor none;
  const at::Tensor* found = find_tensor(inputs, "input");
  return found ? *found : none;
}

double Evaluation::operator[](std::string_view name) const {
  std::vector<std::string> known;
  for (const auto& [other, value] : metrics) {
    if (other == name) return value;
    known.push_back(other);
  }
  throw Error("the run has no metric '" + std::string(name) + "'" + suggestion(std::string(name), known));
}

}  // namespace espalier
