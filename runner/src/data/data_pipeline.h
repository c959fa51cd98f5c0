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
#include "recipe/recipe.h"

namespace espalier {

// How the images of a split are read that does not hold them, and what else there is to know of it.
struct OnDemand {
  InputSpec image;
  int64_t threads = 0;     // 0: as many as compute
  int64_t classes = 0;     // for augmentations that mix labels
  ResizeSection resize{};  // of every image
  // Above 0: images differ in size (DatasetInfo::size_multiple).
  int64_t size_multiple = 0;
};

// A split kept on the device, images as bytes, or read ahead and brought there batch by batch; batches are gathered,
// and images augmented and normalised, there in one pass.
class DataPipeline {
 public:
  // normalization: of images that are bytes. dtype: float32 or float64, of the batches.
  DataPipeline(const Split& split, const Normalization& normalization, at::Device device, at::ScalarType dtype,
               const OnDemand& on_demand = {});

  int64_t size() const { return all_.on_cpu.size(0); }
  const NamedTensors& inputs() const { return inputs_; }  // without images that are read on demand
  const NamedTensors& targets() const { return targets_; }
  // Whether the first input is images of bytes, held or read, which augmentations change.
  bool has_bytes() const { return reader_ != nullptr || bytes_.defined(); }
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
  // samples: their numbers on the device; undefined: all, in the order of the split. numbers: the same on the CPU.
  Batch make(const at::Tensor& bytes, const at::Tensor& samples, std::span<const int64_t> numbers,
             const Augmentations& augmentations, RandomKey key) const;
  at::Tensor gather(const at::Tensor& bytes, const at::Tensor& samples, const Augmentations& augmentations,
                    RandomKey key) const;

  // Samples whose images differ in size, put together: images padded, rows one below the other.
  Batch collate(const std::vector<Sample>& samples) const;
  // What is not done in the one pass.
  void apply(const Augmentations& augmentations, std::span<const int64_t> numbers, RandomKey key, Batch& batch) const;

  at::Device device_;
  NamedTensors inputs_;                // bytes, or floating point of the batches' dtype
  at::Tensor bytes_;                   // uint8 [N, C, H, W], the first of inputs_, where it is that
  std::unique_ptr<ReadAhead> reader_;  // instead of the first of inputs_
  NamedTensors targets_;
  int64_t classes_ = 0;
  ResizeSection resize_;
  int64_t size_multiple_ = 0;
  Order order_;
  bool in_order_ = true;  // order_ is 0 ... N - 1
  Order all_;             // 0 ... N - 1
  Normalization normalization_;
  at::ScalarType dtype_;
};

}  // namespace espalier
