#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/dataset.h"
#include "espalier/random.h"
#include "espalier/run.h"
#include "train/augment.h"

namespace espalier {

struct NormalizeSection;

// As the recipe has it, or as the data set's own means and deviations are.
Normalization normalization_of(const NormalizeSection& section, const DatasetInfo& info);

// A split kept on the device as bytes; batches are gathered, augmented and normalised there in one pass.
class DataPipeline {
 public:
  // dtype: float32 or float64, of the batches.
  DataPipeline(const Split& split, const Normalization& normalization, at::Device device, at::ScalarType dtype);

  int64_t size() const { return targets_.size(0); }
  const at::Tensor& inputs() const { return inputs_; }
  const at::Tensor& targets() const { return targets_; }
  const at::Tensor& order() const { return order_; }
  // The samples of an epoch, in order; kept on the device until the next call.
  void set_order(const std::vector<int64_t>& order);
  // Samples [begin, end) of the order. Each image draws from key.with(its number in the split).
  Batch batch(int64_t begin, int64_t end, const Augmentation& augmentation, RandomKey key) const;
  // The samples with these numbers in the split.
  Batch samples(const std::vector<int64_t>& numbers, const Augmentation& augmentation, RandomKey key) const;
  // Samples [begin, end) of the split as they are: for evaluation.
  Batch plain_batch(int64_t begin, int64_t end) const;

 private:
  Batch gather(const at::Tensor& samples, const Augmentation& augmentation, RandomKey key) const;

  at::Tensor inputs_;   // uint8 [N, C, H, W]
  at::Tensor targets_;  // int64 [N]
  at::Tensor order_;    // int64
  at::Tensor all_;      // 0 ... N - 1
  Normalization normalization_;
  at::ScalarType dtype_;
};

}  // namespace espalier
