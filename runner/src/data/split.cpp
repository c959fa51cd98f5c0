#include "data/split.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "espalier/error.h"

namespace espalier {

namespace {

class SomeSamples final : public Samples {
 public:
  SomeSamples(std::shared_ptr<const Samples> all, std::vector<int64_t> numbers)
      : all_(std::move(all)), numbers_(std::move(numbers)) {}
  int64_t size() const override { return static_cast<int64_t>(numbers_.size()); }
  void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const override {
    all_->read(numbers_[static_cast<size_t>(sample)], training, key, out);
  }
  Sample sample(int64_t number, bool training, RandomKey key) const override {
    return all_->sample(numbers_[static_cast<size_t>(number)], training, key);
  }

 private:
  std::shared_ptr<const Samples> all_;
  std::vector<int64_t> numbers_;
};

class LabelledSamples final : public Samples {
 public:
  LabelledSamples(std::shared_ptr<const Samples> samples, const Registered& component, Location where)
      : samples_(std::move(samples)), component_(component), where_(std::move(where)) {}
  int64_t size() const override { return samples_->size(); }
  void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const override {
    labelled(component_, where_, [&] { samples_->read(sample, training, key, out); });
  }
  Sample sample(int64_t number, bool training, RandomKey key) const override {
    Sample sample;
    labelled(component_, where_, [&] { sample = samples_->sample(number, training, key); });
    return sample;
  }
  void identify(const std::function<void(std::string_view)>& add) const override { samples_->identify(add); }

 private:
  std::shared_ptr<const Samples> samples_;
  const Registered& component_;
  Location where_;
};

}  // namespace

NamedTensors rows_of(const NamedTensors& tensors, const at::Tensor& numbers) {
  NamedTensors result;
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(offsets_suffix)) continue;
    const at::Tensor* offsets = find_tensor(tensors, name + offsets_suffix);
    if (!offsets) {
      result.emplace_back(name, tensor.index_select(0, numbers));
      continue;
    }
    const at::Tensor begin = offsets->index_select(0, numbers).cpu();
    const at::Tensor end = offsets->index_select(0, numbers + 1).cpu();
    const at::Tensor counts = end - begin;
    const at::Tensor now = at::cat({at::zeros({1}, at::kLong), counts.cumsum(0)});
    std::vector<int64_t> rows;
    rows.reserve(static_cast<size_t>(now[numbers.size(0)].item<int64_t>()));
    for (int64_t i = 0; i < counts.numel(); ++i) {
      const int64_t first = begin.const_data_ptr<int64_t>()[i];
      for (int64_t r = 0; r < counts.const_data_ptr<int64_t>()[i]; ++r) rows.push_back(first + r);
    }
    result.emplace_back(name, tensor.index_select(0, at::tensor(rows, at::kLong).to(tensor.device())));
    result.emplace_back(name + offsets_suffix, now.to(offsets->device()));
  }
  return result;
}

Split subset(const Split& split, std::vector<int64_t> numbers) {
  const at::Tensor index = at::tensor(numbers, at::kLong);
  Split part{.inputs = rows_of(split.inputs, index), .targets = rows_of(split.targets, index)};
  if (split.samples) part.samples = std::make_shared<SomeSamples>(split.samples, std::move(numbers));
  return part;
}

at::Tensor class_counts(const NamedTensors& targets, const TargetSpec& spec) {
  const at::Tensor* target = find_tensor(targets, "target");
  if (!target || target->is_floating_point()) return {};
  const at::Tensor flat = target->cpu().flatten();
  return flat.masked_select(flat.ge(0)).bincount({}, spec.outputs);
}

Split labelled_split(Split split, const Registered& component, const Location& where) {
  if (split.samples) split.samples = std::make_shared<LabelledSamples>(split.samples, component, where);
  return split;
}

void check_info(const DatasetInfo& info, const Registered& component, const Location& where) {
  const auto refuse = [&](const std::string& what) { throw InputError(where.str(), component.str() + ": " + what); };
  for (const auto& [name, numbers] : {std::pair("mean", &info.mean), std::pair("deviation", &info.deviation)}) {
    for (const double n : *numbers) {
      const bool good = std::isfinite(n) && (numbers == &info.mean || n > 0);
      if (!good) refuse(std::string("the ") + name + " of a channel is " + to_json(n == n ? Value(n) : Value("NaN")));
    }
  }
}

namespace {

std::string type_text(const at::Tensor& t) {
  return t.defined() ? c10::toString(t.scalar_type()) + std::string(" ") + to_string(t.sizes().vec()) : "nothing";
}

// Sizes of one sample of the first input.
std::vector<int64_t> sample_sizes(const InputSpec& input) {
  if (input.nodes > 0) return {input.nodes, input.channels};
  if (input.height > 0) return {input.channels, input.height, input.width};
  return {input.channels};
}

}  // namespace

void check_split(const Split& split, const std::string& part, const DatasetInfo& info, const Registered& component,
                 const Location& where) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(where.str(), component.str() + ", part '" + part + "': " + what);
  };
  const int64_t n = split.size();
  const auto check_tensor = [&](const std::string& name, const at::Tensor& x, const std::vector<int64_t>& sizes,
                                bool bytes, const char* what) {
    const bool type = x.defined() && (x.is_floating_point() || (bytes && x.scalar_type() == at::kByte));
    if (!type || x.dim() == 0 || x.sizes().slice(1).vec() != sizes) {
      refuse(std::string(what) + " '" + name + "' must be " + (bytes ? "uint8 or floating point" : "floating point") +
             " [N] + " + to_string(sizes) + ", got " + type_text(x));
    }
    if (x.is_floating_point() && !x.isfinite().all().item<bool>())
      refuse(std::string(what) + " '" + name + "' holds numbers that are not finite");
  };
  if (!split.samples) {
    const std::vector<int64_t> sizes = sample_sizes(info.input);
    const at::Tensor* input = find_tensor(split.inputs, "input");
    check_tensor("input", input ? *input : at::Tensor(), sizes, info.input.height > 0 && info.input.nodes == 0,
                 "the input");
  }
  const bool whole_samples = info.size_multiple > 0;
  if (whole_samples && !split.samples)
    refuse("its images differ in size (size_multiple), so it must give `samples`, and it gives tensors");
  for (const InputSpec::Other& other : info.input.others) {
    if (whole_samples) continue;  // each sample brings its own
    const at::Tensor* input = find_tensor(split.inputs, other.name);
    check_tensor(other.name, input ? *input : at::Tensor(), other.sizes, false, "the input");
  }
  const at::Tensor* given = find_tensor(split.targets, "target");
  const at::Tensor target = given ? *given : at::Tensor();
  const bool nodes = info.input.nodes > 0;
  if (info.target.task == task::classification) {
    const std::vector<int64_t> each = nodes ? std::vector{info.input.nodes} : std::vector<int64_t>{};
    const bool fits = target.defined() && target.scalar_type() == at::kLong && target.dim() > 0 &&
                      target.sizes().slice(1).vec() == each;
    // The whole of an image may have one class in a network of nodes, too.
    const bool one = nodes && target.defined() && target.scalar_type() == at::kLong && target.dim() == 1;
    if (!fits && !one)
      refuse("the targets must be int64 [N]" + (nodes ? " + " + to_string(each) : std::string()) + ", got " +
             type_text(target));
  } else if (info.target.task == task::regression || info.target.task == task::multilabel) {
    std::vector<int64_t> each{info.target.outputs};
    if (nodes) each.insert(each.begin(), info.input.nodes);
    check_tensor("target", target, each, false, "the target");
  }
  if (n == 0 || (target.defined() && target.size(0) == 0)) refuse("it holds no samples");
  for (const NamedTensors* all : {&split.inputs, &split.targets}) {
    for (const auto& [name, tensor] : *all) {
      const bool ragged = find_tensor(*all, name + offsets_suffix) != nullptr;
      const int64_t expected = name.ends_with(offsets_suffix) ? n + 1 : n;
      if (ragged || tensor.size(0) == expected) continue;
      if (name == "target") {
        refuse(std::to_string(n) + (split.samples ? " samples and " : " inputs and ") + std::to_string(tensor.size(0)) +
               " targets");
      }
      refuse("'" + name + "' has " + std::to_string(tensor.size(0)) + " rows for " + std::to_string(n) + " samples");
    }
  }
  if (info.target.task == task::multilabel) {
    if (target.ne(0).logical_and(target.ne(1)).any().item<bool>())
      refuse("the targets of several labels must be 0 or 1");
  }
  if (info.target.task != task::classification) return;
  const int64_t classes = info.target.outputs;
  const at::Tensor flat = target.flatten();
  const at::Tensor wrong = flat.lt(0).logical_or_(flat.ge(classes)).logical_and_(flat.ne(nodes ? -100 : 0));
  if (!wrong.any().item<bool>()) return;
  const int64_t sample = wrong.to(at::kByte).argmax().item<int64_t>();
  refuse("the target of sample " + std::to_string(sample) + " is " + std::to_string(flat[sample].item<int64_t>()) +
         "; with " + std::to_string(classes) + " classes targets are 0 to " + std::to_string(classes - 1));
}

DatasetInfo resized(DatasetInfo info, const DataSection& section) {
  const int64_t size = section.resize.size;
  if (size == 0) return info;
  if (info.input.height == 0 || info.input.nodes > 0) {
    throw InputError(section.dataset.location.str(), "data: 'resize' is for images, and these data are " +
                                                         std::string(info.input.nodes > 0 ? "graphs" : "vectors") +
                                                         ": leave it out");
  }
  if (info.size_multiple > 0) {
    throw InputError(section.dataset.location.str(),
                     "data: 'resize' makes all images square, and this data set keeps their shapes: leave it out, and "
                     "see the options of the data set");
  }
  if (info.preparation.size() == 0) {
    info.preparation = Value::map({{"resize", size},
                                   {"interpolation", section.resize.bicubic ? "bicubic" : "bilinear"},
                                   {"from", Value(std::vector<int64_t>{info.input.height, info.input.width})}});
  }
  info.input.height = info.input.width = size;
  return info;
}

int64_t used_samples(int64_t samples, const DataSection& data) {
  return data.drop_last && samples > data.batch ? samples / data.batch * data.batch : samples;
}

int64_t steps_per_epoch(int64_t samples, const DataSection& data, int64_t batches) {
  const int64_t step = data.batch * batches;
  return data.repeat * ((used_samples(samples, data) + step - 1) / step);
}

}  // namespace espalier
