#pragma once

#include <memory>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/augmentations.h"
#include "data/read_ahead.h"
#include "espalier/dataset.h"
#include "espalier/random.h"
#include "espalier/run.h"

namespace espalier {

struct NormalizeSection;

// As the recipe has it, or as the data set's own means and deviations are.
Normalization normalization_of(const NormalizeSection& section, const DatasetInfo& info);

// How the images of a split are read that does not hold them.
struct OnDemand {
  InputSpec image;
  int64_t threads = 0;  // 0: as many as compute
};

// A split kept on the device as bytes, or read ahead and brought there batch by batch; batches are gathered, augmented
// and normalised there in one pass.
class DataPipeline {
 public:
  // dtype: float32 or float64, of the batches.
  DataPipeline(const Split& split, const Normalization& normalization, at::Device device, at::ScalarType dtype,
               const OnDemand& on_demand = {});

  int64_t size() const { return targets_.size(0); }
  const at::Tensor& inputs() const { return inputs_; }  // undefined where they are read on demand
  const at::Tensor& targets() const { return targets_; }
  const at::Tensor& order() const { return order_.on_device; }
  // The samples of an epoch, in order; kept on the device until the next call.
  void set_order(const std::vector<int64_t>& order);
  // Samples [begin, end) of the order. Each image draws from key.with(its number in the split).
  Batch batch(int64_t begin, int64_t end, const Augmentations& augmentations, RandomKey key) const;
  // Samples [begin, end) of another order, of numbers in the split. stream: 0, 1, ...: which of several such orders;
  // each is read ahead by itself.
  Batch samples(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                const Augmentations& augmentations, RandomKey key) const;
  // Samples [begin, end) of the split as they are: for evaluation.
  Batch plain_batch(int64_t begin, int64_t end) const;

 private:
  // Numbers of samples, int64, where batches are made and where they are read.
  struct Order {
    at::Tensor on_device, on_cpu;
    std::span<const int64_t> numbers() const;
  };
  // Of a batch: uint8 [N, C, H, W] of all samples, or of those alone.
  at::Tensor bytes_of(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end, bool training,
                      RandomKey key) const;
  // numbers: those of `samples`, on the CPU.
  Batch gather(const at::Tensor& bytes, const at::Tensor& samples, std::span<const int64_t> numbers,
               const Augmentations& augmentations, RandomKey key) const;

  // What is not done in the one pass.
  void apply(const Augmentations& augmentations, std::span<const int64_t> numbers, RandomKey key, Batch& batch) const;

  at::Tensor inputs_;                  // uint8 [N, C, H, W]
  std::unique_ptr<ReadAhead> reader_;  // instead of inputs_
  at::Tensor targets_;                 // int64 [N]
  Order order_;
  Order all_;  // 0 ... N - 1
  Normalization normalization_;
  at::ScalarType dtype_;
};

}  // namespace espalier
