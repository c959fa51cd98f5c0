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

// The folders where data may lie, in the order in which they are searched.
using DataPaths = std::vector<std::filesystem::path>;

// What is known of a data set without reading it.
struct DatasetInfo {
  InputSpec input;                   // what one sample is
  TargetSpec target;                 // how many classes there are
  std::vector<std::string> classes;  // the names of the classes; may be empty
  std::vector<double> mean;          // the mean of each channel, of inputs scaled to [0, 1]
  std::vector<double> deviation;     // the standard deviation of each channel, of inputs scaled to [0, 1], above 0
  int64_t samples = 0;               // how many training samples there are; 0: known only once they are read
  // How a test image of any size becomes an input, for those who use the network elsewhere: {resize: the shorter side,
  // center_crop: the side of what is taken}, in pixels. Empty: images have the input's size already.
  Value preparation = Value::map();
};

// Images that are read when they are needed, for data sets that no memory holds. It is called by several threads at a
// time, and it outlives the data set that made it.
class ESPALIER_API Samples : public Object {
 public:
  // Returns how many samples there are.
  virtual int64_t size() const = 0;
  // Writes the bytes of one image to `out`: [channels, height, width], of the sizes that info() says. In training the
  // data set may change the image at random, by draws from the key alone. Throws InputError with the file and what is
  // wrong with it.
  virtual void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const = 0;
  // Calls `add`, piece by piece, with what tells these samples from others without reading them all: for example the
  // names and sizes of their files. A run keeps a checksum of it, and its continuation compares. If nothing is added,
  // only the number of samples is compared.
  virtual void identify(const std::function<void(std::string_view)>& /*add*/) const {}
};

// One part of a data set, on the CPU: its inputs, or where they are read from.
struct Split {
  at::Tensor inputs;                                 // uint8 [N, channels, height, width]
  at::Tensor targets;                                // int64 [N], at least 0 and less than the number of classes
  std::shared_ptr<const Samples> samples = nullptr;  // where the N images are read from, instead of inputs
};

// Reads a data set.
class ESPALIER_API Dataset : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "dataset";
  // Returns what networks need to know. It must not read the data, since `plan` works without data.
  virtual DatasetInfo info() const = 0;
  // Returns a part, "train" or "test". Throws InputError with the file and what is wrong with it, or with the folders
  // that were searched.
  virtual Split load(const std::string& part, const DataPaths& paths) const = 0;
};

}  // namespace espalier
