#include "train/run_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "data/split.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/random_fill.h"
#include "plan/plan_checks.h"
#include "record/data_record.h"
#include "train/made.h"

namespace espalier {

void RunData::load(const DataSection& section, const std::function<void(const Value&)>& record) {
  section_ = section;
  const Made<Dataset> dataset = Made<Dataset>::make(section.dataset);
  Split train, test, validation;
  bool has_validation = false;
  dataset.call([&](Dataset& d) {
    info_ = d.info();
    const auto part = [&](const char* name) {
      return labelled_split(d.load(name, paths_), *dataset.component, dataset.where);
    };
    train = part("train");
    test = part("test");
    has_validation = info_.has_validation && section.validation == 0;
    if (has_validation) validation = part("validation");
    info_.classes = d.info().classes;  // the names of folders are known only now
  });
  check_info(info_, *dataset.component, dataset.where);
  check_split(train, "train", info_, *dataset.component, dataset.where);
  check_split(test, "test", info_, *dataset.component, dataset.where);
  if (has_validation) check_split(validation, "validation", info_, *dataset.component, dataset.where);
  if (section.workers > 0 && !train.samples) {
    log::warning(section.dataset.location.str() +
                 ": data: 'workers' read images ahead, and these are held in memory: it is without effect");
  }
  info_ = resized(info_, section);
  Value recorded = data_record(section.dataset, info_, train, test);
  const int64_t count = train.size();
  std::vector<int64_t> samples = permutation(count, seed_.with("validation"));
  if (section.limit > 0 && section.limit < count) samples.resize(static_cast<size_t>(section.limit));
  const auto held_out =
      static_cast<std::ptrdiff_t>(std::llround(section.validation * static_cast<double>(samples.size())));
  std::vector<int64_t> numbers(samples.begin(), samples.begin() + held_out);
  samples.erase(samples.begin(), samples.begin() + held_out);
  if (samples.empty()) throw InputError(section.dataset.location.str(), "data.validation leaves nothing to train on");
  if (section.validation > 0 && held_out == 0) refuse_empty_validation(section, static_cast<int64_t>(samples.size()));
  // In the file's order: the epoch's own permutation shuffles.
  std::ranges::sort(samples);
  std::ranges::sort(numbers);
  if (!numbers.empty()) {
    validation = subset(train, std::move(numbers));
    has_validation = true;
  }
  if (section.test_limit > 0 && section.test_limit < test.size()) {
    std::vector<int64_t> tested = permutation(test.size(), seed_.with("test"));
    tested.resize(static_cast<size_t>(section.test_limit));
    std::ranges::sort(tested);
    test = subset(test, std::move(tested));
  }
  if (static_cast<int64_t>(samples.size()) != count) train = subset(train, std::move(samples));
  scalings_ = measured_scalings(train);
  if (!scalings_.empty()) recorded["scaling"] = to_value(scalings_);
  record(recorded);
  scalings_ = espalier::scalings(section.normalize, info_, scalings_);
  const Normalization normalization = normalization_of(scalings_, info_.input);
  const auto pipeline = [&](const Split& split) {
    const OnDemand on_demand{.image = info_.input,
                             .threads = section.workers,
                             .classes = info_.target.outputs,
                             .resize = section.resize,
                             .size_multiple = info_.size_multiple};
    return std::make_unique<DataPipeline>(scaled(split, scalings_), normalization, device_, dtype_, on_demand);
  };
  validation_ = has_validation ? pipeline(validation) : nullptr;
  train_ = pipeline(train);
  test_ = pipeline(test);
  augmentations_ = Augmentations(section.augment);
  if (!section.augment.empty() && !train_->has_bytes()) {
    throw InputError(section.dataset.location.str(),
                     "data: 'augment' changes images of bytes, and these data are floating point: leave it out");
  }
  if (!section.augment.empty() && info_.size_multiple > 0) {
    throw InputError(
        section.dataset.location.str(),
        "data: 'augment' changes images alone, and what is learned of these depends on where things are in "
        "them: leave it out, and see the options of the data set");
  }
  draws_.clear();
  pass_ = -1;
}

Scalings RunData::measured_scalings(const Split& train) const {
  Scalings measured;
  for (const std::string& name : standardized(section_.normalize, info_)) {
    const auto refuse = [&](const std::string& why) {
      throw InputError(section_.dataset.location.str(), "data: 'normalize' standardizes '" + name + "', " + why);
    };
    const at::Tensor* x = find_tensor(train.inputs, name);
    if (!x) x = find_tensor(train.targets, name);
    if (!x && name == "input" && train.samples)
      refuse("and these images are read on demand: give their mean and std (`normalize: {mean: [...], std: [...]}`)");
    if (!x) {
      std::string known;
      for (const NamedTensors* all : {&train.inputs, &train.targets}) {
        for (const auto& [other, tensor] : *all) known += (known.empty() ? "" : ", ") + other;
      }
      refuse("and the data have no such input or target; they have: " + known);
    }
    if (!x->is_floating_point() && !(name == "input" && x->scalar_type() == at::kByte))
      refuse("which holds whole numbers (classes): only what is measured can be standardized");
    measured.emplace_back(name, scaling_of(*x));
  }
  return measured;
}

at::Tensor RunData::class_counts() const {
  return espalier::class_counts(train_->targets(), info_.target);
}

int64_t RunData::order_epoch(RandomKey key) {
  order_pass(0, key);
  return steps_per_epoch(train_->size(), section_, batches_);
}

void RunData::order_pass(int64_t pass, RandomKey key) {
  const int64_t n = train_->size();
  // Of a step over all samples the order says nothing; as they are, nothing need be copied.
  const bool whole = step_samples() >= n && !train_->has_bytes();
  const bool shuffles = section_.shuffle && !whole;
  if (!shuffles && pass_ >= 0 && pass > 0) {
    pass_ = pass;
    return;
  }
  pass_ = pass;
  std::vector<int64_t> order(static_cast<size_t>(n));
  if (shuffles) {
    order = permutation(n, pass == 0 ? key.with("order") : key.with("order").with(static_cast<uint64_t>(pass)));
  } else {
    std::iota(order.begin(), order.end(), 0);
  }
  train_->set_order(share_.count > 1 ? own_part(order) : order);
}

// Put together of each batch's piece, so that the samples of a step stand side by side and can be read ahead.
std::vector<int64_t> RunData::own_part(const std::vector<int64_t>& order) const {
  std::vector<int64_t> part;
  const int64_t used = used_samples(static_cast<int64_t>(order.size()), section_);
  for (int64_t begin = 0; begin < used; begin += section_.batch) {
    const int64_t samples = std::min(section_.batch, used - begin);
    const auto first = order.begin() + begin + share_.before(samples);
    part.insert(part.end(), first, first + share_.own(samples));
  }
  return part;
}

int64_t RunData::own_before(int64_t samples) const {
  return samples / section_.batch * share_.own(section_.batch) + share_.own(samples % section_.batch);
}

Batch RunData::batch(int64_t step, RandomKey key) {
  const int64_t in_pass = steps_per_epoch(train_->size(), section_, batches_) / section_.repeat;
  const int64_t pass = step / in_pass, at = step % in_pass, samples = step_samples();
  if (pass != pass_) order_pass(pass, key);
  RandomKey augment = key.with("augment");
  if (pass > 0) augment = augment.with("pass").with(static_cast<uint64_t>(pass));
  const int64_t begin = at * samples, end = std::min(used_samples(train_->size(), section_), (at + 1) * samples);
  if (share_.count == 1) return train_->batch(begin, end, augmentations_, augment);
  Batch batch = train_->batch(own_before(begin), own_before(end), augmentations_, augment);
  if (batch.size() < end - begin) batch.whole = end - begin;
  return batch;
}

Batch RunData::draw(std::string_view part, int64_t n, int64_t steps_done) {
  DataPipeline* pipeline = part == "train" ? train_.get() : part == "validation" ? validation_.get() : nullptr;
  if (part != "train" && part != "validation")
    throw Error("batches are drawn from train or validation, not '" + std::string(part) + "'");
  if (!pipeline) {
    throw InputError(section_.dataset.location.str(),
                     "the controller needs a part of the data for validation: `validation: 0.5` (a share) here");
  }
  const int64_t size = pipeline->size();
  const int64_t batch = std::min(step_samples(), size);
  const int64_t per_pass = size / batch;
  const int64_t pass = steps_done / per_pass;
  const RandomKey key = seed_.with("draw").with(part).with(static_cast<uint64_t>(n));
  auto& [at, order] = draws_[{std::string(part), n}];
  if (order.empty() || at != pass || static_cast<int64_t>(order.size()) != size) {
    at = pass;
    order = permutation(size, key.with(static_cast<uint64_t>(pass)));
  }
  const int64_t first = steps_done % per_pass * batch;
  const std::span<const int64_t> used(order.data(), static_cast<size_t>(per_pass * batch));
  return pipeline->samples(n, used, first, first + batch, augmentations_,
                           key.with("augment").with(static_cast<uint64_t>(pass)));
}

}  // namespace espalier
