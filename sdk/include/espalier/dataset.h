#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/builder.h"
#include "espalier/component.h"

namespace espalier {

// Where data may lie: folders in the order in which they are searched.
using DataPaths = std::vector<std::filesystem::path>;

struct DatasetInfo {
  InputSpec input;
  TargetSpec target;
  std::vector<std::string> classes;  // their names, may be empty
  std::vector<double> mean;          // per channel, of inputs scaled to [0, 1], for normalisation
  std::vector<double> deviation;
  int64_t samples = 0;  // of the training part; 0: known only once it is read
};

// One part of a data set, whole, on the CPU.
struct Split {
  at::Tensor inputs;   // uint8 [N, channels, height, width]
  at::Tensor targets;  // int64 [N], 0 <= target < classes
};

class ESPALIER_API Dataset : public Object {
 public:
  static constexpr const char* kind = "dataset";
  // What networks need to know. Must not read the data: `plan` works without it.
  virtual DatasetInfo info() const = 0;
  // part: "train" or "test". Throws InputError naming the file and what is wrong with it, or the searched folders.
  virtual Split load(const std::string& part, const DataPaths& paths) const = 0;
};

}  // namespace espalier
