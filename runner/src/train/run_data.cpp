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
  Split train;
  Split test;
  dataset.call([&](Dataset& d) {
    info_ = d.info();
    train = labelled_split(d.load("train", paths_), *dataset.component, dataset.where);
    test = labelled_split(d.load("test", paths_), *dataset.component, dataset.where);
    info_.classes = d.info().classes;  // the names of folders are known only now
  });
  check_info(info_, *dataset.component, dataset.where);
  check_split(train, "train", info_, *dataset.component, dataset.where);
  check_split(test, "test", info_, *dataset.component, dataset.where);
  record(data_record(section.dataset, info_, train, test));
  if (section.workers > 0 && !train.samples) {
    log::warning(section.dataset.location.str() +
                 ": data: 'workers' read images ahead, and these are held in memory: it is without effect");
  }
  const Normalization normalization = normalization_of(section.normalize, info_);
  const int64_t count = train.targets.size(0);
  std::vector<int64_t> samples = permutation(count, seed_.with("validation"));
  if (section.limit > 0 && section.limit < count) samples.resize(static_cast<size_t>(section.limit));
  const auto held_out =
      static_cast<std::ptrdiff_t>(std::llround(section.validation * static_cast<double>(samples.size())));
  std::vector<int64_t> validation(samples.begin(), samples.begin() + held_out);
  samples.erase(samples.begin(), samples.begin() + held_out);
  if (samples.empty()) throw InputError(section.dataset.location.str(), "data.validation leaves nothing to train on");
  if (section.validation > 0 && held_out == 0) refuse_empty_validation(section, static_cast<int64_t>(samples.size()));
  // In the file's order: the epoch's own permutation shuffles.
  std::ranges::sort(samples);
  std::ranges::sort(validation);
  const auto pipeline = [&](const Split& split) {
    const OnDemand on_demand{.image = info_.input, .threads = section.workers};
    return std::make_unique<DataPipeline>(split, normalization, device_, dtype_, on_demand);
  };
  validation_ = validation.empty() ? nullptr : pipeline(subset(train, std::move(validation)));
  const bool whole = static_cast<int64_t>(samples.size()) == count;
  train_ = pipeline(whole ? train : subset(train, std::move(samples)));
  test_ = pipeline(test);
  augmentations_ = Augmentations(section.augment);
  draws_.clear();
}

int64_t RunData::order_epoch(RandomKey key) {
  const int64_t n = train_->size();
  std::vector<int64_t> order(static_cast<size_t>(n));
  if (section_.shuffle) {
    order = permutation(n, key.with("order"));
  } else {
    std::iota(order.begin(), order.end(), 0);
  }
  train_->set_order(order);
  return steps_per_epoch(n, section_);
}

Batch RunData::batch(int64_t step, RandomKey key) const {
  return train_->batch(step * section_.batch, std::min(train_->size(), (step + 1) * section_.batch), augmentations_,
                       key.with("augment"));
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
  const int64_t batch = std::min(section_.batch, size);
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
