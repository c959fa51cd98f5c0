#include "train/data_pipeline.h"

#include <algorithm>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "espalier/error.h"
#include "recipe/recipe.h"
#include "train/gather_cuda.h"
#include "train/gather_kernels.h"

namespace espalier {

Normalization normalization_of(const NormalizeSection& section, const DatasetInfo& info) {
  Normalization n{};
  const auto channels = static_cast<size_t>(std::min<int64_t>(info.input.channels, max_channels));
  const std::vector<double>& mean = section.mean.empty() ? info.mean : section.mean;
  const std::vector<double>& deviation = section.deviation.empty() ? info.deviation : section.deviation;
  if (section.on && (mean.size() != channels || deviation.size() != channels)) {
    throw Error("data.normalize: " + std::to_string(channels) + " channels need as many means and deviations, got " +
                std::to_string(mean.size()) + " and " + std::to_string(deviation.size()));
  }
  for (size_t c = 0; c < channels; ++c) {
    const double m = section.on ? mean[c] : 0;
    const double d = section.on ? deviation[c] : 1;
    n.scale[c] = static_cast<float>(1 / (255 * d));
    n.shift[c] = static_cast<float>(-m / d);
  }
  return n;
}

DataPipeline::DataPipeline(const Split& split, const Normalization& normalization, at::Device device,
                           at::ScalarType dtype)
    : inputs_(split.inputs.contiguous().to(device)),
      targets_(split.targets.to(device)),
      normalization_(normalization),
      dtype_(dtype) {
  if (inputs_.dim() != 4 || inputs_.scalar_type() != at::kByte)
    throw Error("a data set's inputs must be uint8 [N, channels, height, width]");
  if (inputs_.size(1) > max_channels) throw Error("images of more than " + std::to_string(max_channels) + " channels");
  if (targets_.dim() != 1 || targets_.size(0) != inputs_.size(0) || targets_.scalar_type() != at::kLong) {
    throw Error("a data set's targets must be int64 [N], one for each input");
  }
  all_ = at::arange(size(), at::TensorOptions().dtype(at::kLong).device(device));
  order_ = all_;
}

void DataPipeline::set_order(const std::vector<int64_t>& order) {
  order_ = at::tensor(order, at::kLong).to(inputs_.device());
}

Batch DataPipeline::batch(int64_t begin, int64_t end, const Augmentation& augmentation, RandomKey key) const {
  return gather(order_.slice(0, begin, end), augmentation, key);
}

Batch DataPipeline::samples(const std::vector<int64_t>& numbers, const Augmentation& augmentation,
                            RandomKey key) const {
  return gather(at::tensor(numbers, at::kLong).to(inputs_.device()), augmentation, key);
}

Batch DataPipeline::plain_batch(int64_t begin, int64_t end) const {
  return gather(all_.slice(0, begin, end), {}, RandomKey());
}

Batch DataPipeline::gather(const at::Tensor& samples, const Augmentation& augmentation, RandomKey key) const {
  const int64_t count = samples.size(0);
  const int64_t channels = inputs_.size(1), height = inputs_.size(2), width = inputs_.size(3);
  at::Tensor out = at::empty(
      {count, channels, height, width},
      at::TensorOptions().dtype(dtype_).device(inputs_.device()).memory_format(at::MemoryFormat::ChannelsLast));
  const GatherArguments a{inputs_.const_data_ptr<uint8_t>(),
                          samples.const_data_ptr<int64_t>(),
                          count,
                          static_cast<int>(channels),
                          static_cast<int>(height),
                          static_cast<int>(width),
                          augmentation,
                          normalization_,
                          key};
  if (out.is_cuda()) {
    if (dtype_ == at::kDouble) {
      launch_gather(a, out.data_ptr<double>(), out.device().index());
    } else {
      launch_gather(a, out.data_ptr<float>(), out.device().index());
    }
  } else if (dtype_ == at::kDouble) {
    gather_on_cpu(a, out.data_ptr<double>());
  } else {
    gather_on_cpu(a, out.data_ptr<float>());
  }
  return {out, targets_.index_select(0, samples)};
}

}  // namespace espalier
