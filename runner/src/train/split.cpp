#include "train/split.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/tensor.h>

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

int64_t steps_per_epoch(int64_t samples, const DataSection& data) {
  return data.drop_last ? std::max<int64_t>(1, samples / data.batch) : (samples + data.batch - 1) / data.batch;
}

}  // namespace espalier
