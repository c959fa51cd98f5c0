#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/data_pipeline.h"
#include "data/scaling.h"
#include "data/share.h"
#include "espalier/dataset.h"
#include "recipe/recipe.h"

namespace espalier {

// The data of a run: the parts that a stage trains, validates and tests with, the order of each epoch and the draws of
// controllers.
class RunData {
 public:
  // share: the piece of each batch of a step that is made.
  RunData(at::Device device, at::ScalarType dtype, RandomKey seed, DataPaths paths, Share share)
      : device_(device), dtype_(dtype), seed_(seed), paths_(std::move(paths)), share_(share) {}

  // Loads a section's data. record: called with what tells these data from others, before anything is kept. Throws
  // InputError where the data do not fit the section.
  void load(const DataSection& section, const std::function<void(const Value&)>& record);

  const DataSection& section() const { return section_; }
  const DatasetInfo& info() const { return info_; }
  const Scalings& scalings() const { return scalings_; }
  // How often each class occurs in the training part: see LossSetup.
  at::Tensor class_counts() const;
  // How many batches make a step from now on.
  void accumulate(int64_t batches) { batches_ = batches; }
  // How many samples a full step has.
  int64_t step_samples() const { return section_.batch * batches_; }
  DataPipeline& train() const { return *train_; }
  DataPipeline& test() const { return *test_; }
  DataPipeline* validation() const { return validation_.get(); }  // null: nothing is held out

  // Puts the training part into the order of an epoch; returns the number of its steps.
  int64_t order_epoch(RandomKey key);
  // The batch of a step of the epoch, augmented: the pieces that this process has of the batches that make the step.
  Batch batch(int64_t step, RandomKey key);
  // Another batch of "train" or "validation": the n-th that is drawn in the step which so many steps of the run lie
  // before. Each process has all of it. Throws Error for another part, InputError where there is none.
  Batch draw(std::string_view part, int64_t n, int64_t steps_done);

 private:
  // Puts the training part into the order of a pass through it.
  void order_pass(int64_t pass, RandomKey key);
  // Of an order, the samples of this process.
  std::vector<int64_t> own_part(const std::vector<int64_t>& order) const;
  // How many of the first samples of a pass, of whole batches or all, are in there.
  int64_t own_before(int64_t samples) const;
  // Of what is standardized, by the training part.
  Scalings measured_scalings(const Split& train) const;

  at::Device device_;
  at::ScalarType dtype_;
  RandomKey seed_;
  DataPaths paths_;
  Share share_;
  DataSection section_;
  DatasetInfo info_;
  Scalings scalings_;
  int64_t batches_ = 1;
  int64_t pass_ = -1;  // of the epoch, whose order the training part has
  std::unique_ptr<DataPipeline> train_, test_, validation_;
  std::map<std::pair<std::string, int64_t>, std::pair<int64_t, std::vector<int64_t>>> draws_;  // the pass and its order
  Augmentations augmentations_;
};

}  // namespace espalier
