#include "data/split.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

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
  void identify(const std::function<void(std::string_view)>& add) const override { samples_->identify(add); }

 private:
  std::shared_ptr<const Samples> samples_;
  const Registered& component_;
  Location where_;
};

}  // namespace

Split subset(const Split& split, std::vector<int64_t> numbers) {
  const at::Tensor index = at::tensor(numbers, at::kLong);
  const at::Tensor targets = split.targets.index_select(0, index);
  if (!split.samples) return {.inputs = split.inputs.index_select(0, index), .targets = targets};
  return {
      .inputs = {}, .targets = targets, .samples = std::make_shared<SomeSamples>(split.samples, std::move(numbers))};
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

void check_split(const Split& split, const std::string& part, const DatasetInfo& info, const Registered& component,
                 const Location& where) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(where.str(), component.str() + ", part '" + part + "': " + what);
  };
  const auto type_of = [](const at::Tensor& t) {
    return t.defined() ? c10::toString(t.scalar_type()) + std::string(" ") + to_string(t.sizes().vec()) : "nothing";
  };
  const at::Tensor& targets = split.targets;
  if (!targets.defined() || targets.scalar_type() != at::kLong || targets.dim() != 1)
    refuse("the targets must be int64 [N], got " + type_of(targets));
  const int64_t n = targets.size(0);
  if (n == 0) refuse("it holds no samples");
  if (split.samples) {
    if (split.samples->size() != n)
      refuse(std::to_string(split.samples->size()) + " samples and " + std::to_string(n) + " targets");
  } else {
    const std::vector<int64_t> image{info.input.channels, info.input.height, info.input.width};
    const at::Tensor& inputs = split.inputs;
    const bool fits = inputs.defined() && inputs.scalar_type() == at::kByte && inputs.dim() > 0 &&
                      inputs.sizes().slice(1).vec() == image;
    if (!fits) refuse("the inputs must be uint8 [N] + " + to_string(image) + ", got " + type_of(inputs));
    if (inputs.size(0) != n) refuse(std::to_string(inputs.size(0)) + " inputs and " + std::to_string(n) + " targets");
  }
  const int64_t classes = info.target.outputs;
  const at::Tensor wrong = targets.lt(0).logical_or_(targets.ge(classes));
  if (!wrong.any().item<bool>()) return;
  const int64_t sample = wrong.to(at::kByte).argmax().item<int64_t>();
  refuse("the target of sample " + std::to_string(sample) + " is " + std::to_string(targets[sample].item<int64_t>()) +
         "; with " + std::to_string(classes) + " classes targets are 0 to " + std::to_string(classes - 1));
}

int64_t steps_per_epoch(int64_t samples, const DataSection& data) {
  return data.drop_last ? std::max<int64_t>(1, samples / data.batch) : (samples + data.batch - 1) / data.batch;
}

}  // namespace espalier
