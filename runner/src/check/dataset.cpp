// What holds for every data set. Where its files are missing, only what it says without them.
#include "espalier/dataset.h"

#include <algorithm>

#include <ATen/TensorOperators.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/datasets/find.h"

namespace espalier {

namespace {

Split load(const Dataset& d, const std::string& part) {
  try {
    return d.load(part, default_data_paths({}));
  } catch (const InputError& e) {
    throw CheckSkipped(e.what());
  }
}

// What is read on demand: one sample. Nothing beyond it may be written.
std::vector<uint8_t> read(const Samples& samples, const InputSpec& image, int64_t sample, bool training, uint64_t key) {
  constexpr size_t beyond = 64;
  constexpr uint8_t untouched = 0xa5;
  const auto size = static_cast<size_t>(image.channels * image.height * image.width);
  std::vector<uint8_t> bytes(size + beyond, untouched);
  samples.read(sample, training, RandomKey(key), bytes.data());
  expect(
      std::all_of(bytes.begin() + static_cast<ptrdiff_t>(size), bytes.end(), [](uint8_t b) { return b == untouched; }),
      "sample " + std::to_string(sample) + " of " + std::to_string(size) + " bytes, as info() says", "more bytes");
  bytes.resize(size);
  return bytes;
}

int64_t check_samples(const Split& s, const InputSpec& image, const std::string& of) {
  expect(!s.inputs.defined(), "inputs" + of + ", or samples that are read on demand", "both");
  const int64_t n = s.samples->size();
  expect(n > 0, "samples" + of, "none");
  for (const int64_t sample : {int64_t{0}, n - 1}) {
    for (const bool training : {false, true}) read(*s.samples, image, sample, training, 1);
  }
  return n;
}

int64_t check_inputs(const Split& s, const InputSpec& image, const std::string& of) {
  expect(s.inputs.defined() && s.inputs.dim() == 4 && s.inputs.scalar_type() == at::kByte && s.inputs.is_cpu(),
         "inputs" + of + " that are uint8 [N, channels, height, width] on the CPU",
         s.inputs.defined()
             ? std::string(c10::toString(s.inputs.scalar_type())) + " " + to_string(s.inputs.sizes().vec())
             : "none");
  const int64_t n = s.inputs.size(0);
  const std::vector<int64_t> announced{n, image.channels, image.height, image.width};
  expect(n > 0 && s.inputs.sizes().vec() == announced, "inputs" + of + " as info() says, " + to_string(announced),
         to_string(s.inputs.sizes().vec()));
  return n;
}

std::string check_info(const Registered& r) {
  const DatasetInfo info = make_example<Dataset>(r)->info();
  expect(info.input.channels >= 1, "at least 1 channel", std::to_string(info.input.channels));
  expect(info.input.height >= 1 && info.input.width >= 1, "a height and a width",
         std::to_string(info.input.height) + " x " + std::to_string(info.input.width));
  expect(info.target.outputs >= 2, "at least 2 classes", std::to_string(info.target.outputs));
  const std::string channels = " for each of the " + std::to_string(info.input.channels) + " channels";
  expect(static_cast<int64_t>(info.mean.size()) == info.input.channels, "a mean" + channels,
         std::to_string(info.mean.size()));
  expect(static_cast<int64_t>(info.deviation.size()) == info.input.channels, "a deviation" + channels,
         std::to_string(info.deviation.size()));
  for (const double m : info.mean) expect(m >= 0 && m <= 1, "means of pixels in [0, 1]", std::to_string(m));
  for (const double d : info.deviation) expect(d > 0 && d <= 1, "deviations in (0, 1]", std::to_string(d));
  expect(info.classes.empty() || static_cast<int64_t>(info.classes.size()) == info.target.outputs,
         "no names of classes, or " + std::to_string(info.target.outputs), std::to_string(info.classes.size()));
  return {};
}

std::string check_load(const Registered& r) {
  const auto dataset = make_example<Dataset>(r);
  const DatasetInfo info = dataset->info();
  std::string sizes;
  for (const std::string part : {"train", "test"}) {
    const Split s = load(*dataset, part);
    const std::string of = " of '" + part + "'";
    const int64_t n = s.samples ? check_samples(s, info.input, of) : check_inputs(s, info.input, of);
    expect(s.targets.defined() && s.targets.scalar_type() == at::kLong && s.targets.sizes().vec() == Indices{n},
           "targets" + of + " that are int64 [" + std::to_string(n) + "]",
           s.targets.defined()
               ? std::string(c10::toString(s.targets.scalar_type())) + " " + to_string(s.targets.sizes().vec())
               : "none");
    const int64_t least = s.targets.min().item<int64_t>(), most = s.targets.max().item<int64_t>();
    expect(least >= 0 && most < info.target.outputs,
           "targets" + of + " from 0 to " + std::to_string(info.target.outputs - 1),
           std::to_string(least) + " to " + std::to_string(most));
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(n) + of;
  }
  try {
    dataset->load("no such part", default_data_paths({}));
  } catch (const InputError&) {
    return sizes;
  }
  throw CheckFailure("an error for a part that there is not", "none");
}

std::string check_deterministic(const Registered& r) {
  const auto dataset = make_example<Dataset>(r);
  const Split a = load(*make_example<Dataset>(r), "test"), b = load(*dataset, "test");
  expect(a.targets.equal(b.targets), "the same when it is loaded again", "other data");
  if (!a.samples) {
    expect(a.inputs.equal(b.inputs), "the same when it is loaded again", "other data");
    return {};
  }
  const InputSpec image = dataset->info().input;
  for (int64_t sample = 0; sample < std::min<int64_t>(3, a.samples->size()); ++sample) {
    for (const bool training : {false, true}) {
      const auto first = read(*a.samples, image, sample, training, 1);
      read(*a.samples, image, sample, training, 2);
      expect(first == read(*a.samples, image, sample, training, 1) &&
                 first == read(*b.samples, image, sample, training, 1),
             "the same sample for the same key", "another one");
    }
  }
  return {};
}

}  // namespace

std::vector<Check> dataset_checks() {
  const std::string kind = Dataset::kind;
  return {{kind, "info", "sizes, classes, mean and deviation fit together", check_info},
          {kind, "load", "inputs and targets as training needs them and as info() says", check_load},
          {kind, "deterministic", "the same data each time", check_deterministic}};
}

}  // namespace espalier
