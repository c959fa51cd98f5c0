#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/builder.h"
#include "espalier/component.h"
#include "espalier/random.h"
#include "espalier/value.h"

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
  // How a test image of any size becomes an input, for who uses the network elsewhere: {resize: the shorter side,
  // center_crop: the side of what is taken}. Empty: images have the input's size already.
  Value preparation = Value::map();
};

// Images that are read when they are needed, for data sets that no memory holds. Called by several threads at a time;
// outlives the data set that made it.
class ESPALIER_API Samples : public Object {
 public:
  virtual int64_t size() const = 0;
  // Writes bytes [channels, height, width], sized as info() says. In training the data set may change the image at
  // random, by draws from the key alone. Throws InputError naming the file and what is wrong with it.
  virtual void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const = 0;
  // Calls `add` with what tells these samples from others, without reading them all, piece by piece: names and sizes of
  // their files, say. A run keeps a checksum of it, with which its continuation compares. Nothing: their number alone
  // tells.
  virtual void identify(const std::function<void(std::string_view)>& /*add*/) const {}
};

// One part of a data set, on the CPU: its inputs, or where to read them.
struct Split {
  at::Tensor inputs;                                 // uint8 [N, channels, height, width]
  at::Tensor targets;                                // int64 [N], 0 <= target < classes
  std::shared_ptr<const Samples> samples = nullptr;  // of the N, instead of inputs
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
