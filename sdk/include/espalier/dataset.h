#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/batch.h"
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
  TargetSpec target;                 // what is learned of it
  std::vector<std::string> classes;  // the names of the classes, values or labels; may be empty
  // The mean of each channel or feature of the first input, of bytes scaled to [0, 1]; empty: not known.
  std::vector<double> mean;
  // The standard deviation of each channel or feature, likewise, above 0.
  std::vector<double> deviation;
  int64_t samples = 0;  // how many training samples there are; 0: known only once they are read
  // How a test image of any size becomes an input, for those who use the network elsewhere: {resize: the shorter side,
  // center_crop: the side of what is taken}, in pixels. Empty: images have the input's size already.
  Value preparation = Value::map();
  // The inputs and targets, by name, that are brought to mean 0 and standard deviation 1 by what the training part
  // holds, unless the recipe says otherwise (`normalize`): for tables.
  std::vector<std::string> standardize{};
  // Whether load("validation") gives a part of its own. Otherwise the recipe may hold a share of the training part out.
  bool has_validation = false;
  // Above 0: images differ in size, and `input` says the size that costs are counted with. The images of a batch get
  // the height and the width of its largest ones, rounded up to multiples of this number of pixels: what is missing at
  // the right and at the bottom are zeros after the normalisation. Parts then give Samples::sample().
  int64_t size_multiple = 0;
};

// One sample of a data set whose images differ in size.
struct Sample {
  // The first is called "input": an image as bytes, uint8 [channels, height, width] of any height and width. Others are
  // as InputSpec::others says, floating point, and reach the network as the type that it computes with.
  NamedTensors inputs;
  // What is learned of it, of the same sizes for all samples. A batch has [batch, ...], in the type given here.
  NamedTensors targets;
  // The same with a number of rows of its own, [rows, ...]: boxes, say. A batch has the rows of all samples one below
  // the other, and NAME.offsets (Batch::targets).
  NamedTensors rows;
};

// Images that are read when they are needed, for data sets that no memory holds. It is called by several threads at a
// time, and it outlives the data set that made it. It overrides read(), or sample() where images differ in size.
class ESPALIER_API Samples : public Object {
 public:
  // Returns how many samples there are.
  virtual int64_t size() const = 0;
  // Writes the bytes of one image to `out`: [channels, height, width], of the sizes that info() says. In training the
  // data set may change the image at random, by draws from the key alone. Throws InputError with the file and what is
  // wrong with it.
  virtual void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const;
  // Returns one sample where images differ in size (DatasetInfo::size_multiple), with what is learned of it: targets
  // that follow what happened to the image, such as boxes. In training the data set may change it at random, by draws
  // from the key alone. Throws InputError as read() does.
  virtual Sample sample(int64_t number, bool training, RandomKey key) const;
  // Calls `add`, piece by piece, with what tells these samples from others without reading them all: for example the
  // names and sizes of their files. A run keeps a checksum of it, and its continuation compares. If nothing is added,
  // only the number of samples is compared.
  virtual void identify(const std::function<void(std::string_view)>& /*add*/) const {}
};

// One part of a data set, on the CPU: its inputs and targets, by name, each [N, ...] for N samples.
struct ESPALIER_API Split {
  // The first is called "input": images as bytes, uint8 [N, channels, height, width], or floating point of the sizes
  // that info() says. Others as InputSpec::others says, floating point.
  NamedTensors inputs;
  // The first is called "target": class numbers, int64 [N] or [N, nodes], at least 0 and less than the number of
  // classes, or -100 for what does not count; else floating point [N, outputs]. Where samples have different numbers of
  // rows: NAME with the rows of all, and NAME.offsets, int64 [N + 1], where each sample's begin.
  NamedTensors targets;
  std::shared_ptr<const Samples> samples = nullptr;  // where the N images are read from, instead of inputs

  // Returns how many samples it has.
  int64_t size() const;
  // Returns the first input, or an undefined tensor if images are read from `samples`.
  const at::Tensor& input() const;
  // Returns the target "target". Throws Error if there is none.
  const at::Tensor& target() const { return tensor_at(targets, "target", "target"); }
};

// Reads a data set.
class ESPALIER_API Dataset : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "dataset";
  // Returns what networks need to know. It must not read the data, since `plan` works without data.
  virtual DatasetInfo info() const = 0;
  // Returns a part, "train" or "test" (or "validation" if info() says so). Throws InputError with the file and what is
  // wrong with it, or with the folders that were searched.
  virtual Split load(const std::string& part, const DataPaths& paths) const = 0;
};

}  // namespace espalier
