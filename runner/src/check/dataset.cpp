// What holds for every data set. Where its files are missing, only what it says without them.
#include "espalier/dataset.h"

#include <algorithm>

#include <ATen/TensorOperators.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "data/split.h"
#include "espalier/datasets/find.h"

namespace espalier {

namespace {

Split load(const Dataset& d, const std::string& part) {
  try {
    return d.load(part, default_data_paths(example_options().data));
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

// One sample whose size is its own.
Sample read_whole(const Samples& samples, const DatasetInfo& info, int64_t number, bool training, uint64_t key) {
  Sample sample = samples.sample(number, training, RandomKey(key));
  const at::Tensor* image = find_tensor(sample.inputs, "input");
  const bool fits = image && image->dim() == 3 && image->scalar_type() == at::kByte && image->is_cpu() &&
                    image->size(0) == info.input.channels && image->numel() > 0;
  expect(fits,
         "an image \"input\", uint8 [" + std::to_string(info.input.channels) + ", height, width], of sample " +
             std::to_string(number),
         image ? "another tensor" : "none");
  for (const InputSpec::Other& other : info.input.others) {
    const at::Tensor* x = find_tensor(sample.inputs, other.name);
    expect(x && x->is_floating_point() && x->sizes().vec() == other.sizes,
           "the input '" + other.name + "' of the sizes that info() says", x ? "other sizes" : "none");
  }
  return sample;
}

bool same_tensors(const NamedTensors& one, const NamedTensors& other) {
  if (one.size() != other.size()) return false;
  for (size_t i = 0; i < one.size(); ++i) {
    if (one[i].first != other[i].first || !one[i].second.equal(other[i].second)) return false;
  }
  return true;
}

bool same_sample(const Sample& a, const Sample& b) {
  return same_tensors(a.inputs, b.inputs) && same_tensors(a.targets, b.targets) && same_tensors(a.rows, b.rows);
}

void check_samples(const Split& s, const DatasetInfo& info, const std::string& of) {
  expect(!s.input().defined(), "inputs" + of + ", or samples that are read on demand", "both");
  const int64_t n = s.samples->size();
  expect(n > 0, "samples" + of, "none");
  for (const int64_t sample : {int64_t{0}, n - 1}) {
    for (const bool training : {false, true}) {
      if (info.size_multiple > 0) {
        read_whole(*s.samples, info, sample, training, 1);
      } else {
        read(*s.samples, info.input, sample, training, 1);
      }
    }
  }
}

// What it says of itself. Some have to look into a file for that, of which there is no example.
DatasetInfo info_of(const Registered& r, const Dataset& d) {
  const bool wants_file = std::ranges::any_of(r.component.parameters, [](const ParameterInfo& p) {
    return p.required && (p.type == ParameterType::path || p.type == ParameterType::string);
  });
  try {
    return d.info();
  } catch (const InputError& e) {
    if (wants_file) throw CheckSkipped(e.what());
    throw;
  }
}

std::string check_info(const Registered& r) {
  const DatasetInfo info = info_of(r, *make_example<Dataset>(r));
  const bool image = info.input.height > 0 && info.input.nodes == 0;
  expect(info.input.channels >= 1, "at least 1 channel or feature", std::to_string(info.input.channels));
  expect((info.input.height > 0) == (info.input.width > 0), "a height and a width, or neither",
         std::to_string(info.input.height) + " x " + std::to_string(info.input.width));
  const bool classes = info.target.task == task::classification;
  expect(info.target.outputs >= (classes ? 2 : 1), classes ? "at least 2 classes" : "at least 1 output",
         std::to_string(info.target.outputs));
  const std::string channels = " for each of the " + std::to_string(info.input.channels) + " channels";
  const auto count = [&](const std::vector<double>& numbers, const char* what) {
    const bool fits = static_cast<int64_t>(numbers.size()) == info.input.channels || (!image && numbers.empty());
    expect(fits, std::string("a ") + what + channels, std::to_string(numbers.size()));
  };
  count(info.mean, "mean");
  count(info.deviation, "deviation");
  if (image) {
    for (const double m : info.mean) expect(m >= 0 && m <= 1, "means of pixels in [0, 1]", std::to_string(m));
    for (const double d : info.deviation) expect(d > 0 && d <= 1, "deviations in (0, 1]", std::to_string(d));
  }
  expect(info.classes.empty() || static_cast<int64_t>(info.classes.size()) == info.target.outputs,
         "no names of classes, or " + std::to_string(info.target.outputs), std::to_string(info.classes.size()));
  return {};
}

std::string check_load(const Registered& r) {
  const auto dataset = make_example<Dataset>(r);
  const DatasetInfo info = info_of(r, *dataset);
  std::string sizes;
  for (const std::string part : {"train", "test"}) {
    const Split s = load(*dataset, part);
    const std::string of = " of '" + part + "'";
    if (s.samples) check_samples(s, info, of);
    try {
      check_split(s, part, info, r, {});
    } catch (const InputError& e) {
      throw CheckFailure("inputs and targets" + of + " as training needs them and as info() says", e.what());
    }
    for (const NamedTensors* tensors : {&s.inputs, &s.targets}) {
      for (const auto& [name, x] : *tensors) expect(x.is_cpu(), "'" + name + "'" + of + " on the CPU", "on a device");
    }
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(s.size()) + of;
  }
  try {
    dataset->load("no such part", default_data_paths(example_options().data));
  } catch (const InputError&) {
    return sizes;
  }
  throw CheckFailure("an error for a part that there is not", "none");
}

std::string check_deterministic(const Registered& r) {
  const auto dataset = make_example<Dataset>(r);
  const Split a = load(*make_example<Dataset>(r), "test"), b = load(*dataset, "test");
  expect(same_tensors(a.targets, b.targets) && same_tensors(a.inputs, b.inputs), "the same when it is loaded again",
         "other data");
  if (!a.samples) return {};
  const DatasetInfo info = dataset->info();
  for (int64_t sample = 0; sample < std::min<int64_t>(3, a.samples->size()); ++sample) {
    for (const bool training : {false, true}) {
      bool same = false;
      if (info.size_multiple > 0) {
        const Sample first = read_whole(*a.samples, info, sample, training, 1);
        read_whole(*a.samples, info, sample, training, 2);
        same = same_sample(first, read_whole(*a.samples, info, sample, training, 1)) &&
               same_sample(first, read_whole(*b.samples, info, sample, training, 1));
      } else {
        const auto first = read(*a.samples, info.input, sample, training, 1);
        read(*a.samples, info.input, sample, training, 2);
        same = first == read(*a.samples, info.input, sample, training, 1) &&
               first == read(*b.samples, info.input, sample, training, 1);
      }
      expect(same, "the same sample for the same key", "another one");
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
