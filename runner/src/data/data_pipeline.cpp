#include "data/data_pipeline.h"

#include <algorithm>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "data/gather_cuda.h"
#include "data/gather_kernels.h"
#include "espalier/error.h"
#include "recipe/recipe.h"

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

namespace {

std::span<const int64_t> part(std::span<const int64_t> order, int64_t begin, int64_t end) {
  return order.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// Of what is read ahead; those of samples() come after them.
constexpr int64_t plain_stream = 0, batch_stream = 1, first_stream = 2;

std::unique_ptr<ReadAhead> reader_of(const Split& split, at::Device device, const OnDemand& on_demand) {
  const int64_t threads = on_demand.threads > 0 ? on_demand.threads : at::get_num_threads();
  return std::make_unique<ReadAhead>(split.samples, on_demand.image, threads, device.is_cuda());
}

}  // namespace

DataPipeline::DataPipeline(const Split& split, const Normalization& normalization, at::Device device,
                           at::ScalarType dtype, const OnDemand& on_demand)
    : inputs_(split.samples ? at::Tensor() : split.inputs.contiguous().to(device)),
      reader_(split.samples ? reader_of(split, device, on_demand) : nullptr),
      targets_(split.targets.to(device)),
      normalization_(normalization),
      dtype_(dtype) {
  if (!reader_ && (inputs_.dim() != 4 || inputs_.scalar_type() != at::kByte))
    throw Error("a data set's inputs must be uint8 [N, channels, height, width]");
  if ((reader_ ? on_demand.image.channels : inputs_.size(1)) > max_channels)
    throw Error("images of more than " + std::to_string(max_channels) + " channels");
  const int64_t count = reader_ ? split.samples->size() : inputs_.size(0);
  if (targets_.dim() != 1 || targets_.size(0) != count || targets_.scalar_type() != at::kLong) {
    throw Error("a data set's targets must be int64 [N], one for each input");
  }
  all_.on_cpu = at::arange(count, at::kLong);
  all_.on_device = all_.on_cpu.to(device);
  order_ = all_;
}

std::span<const int64_t> DataPipeline::Order::numbers() const {
  return {on_cpu.const_data_ptr<int64_t>(), static_cast<size_t>(on_cpu.numel())};
}

void DataPipeline::set_order(const std::vector<int64_t>& order) {
  order_.on_cpu = at::tensor(order, at::kLong);
  order_.on_device = order_.on_cpu.to(targets_.device());
}

Batch DataPipeline::batch(int64_t begin, int64_t end, const Augmentations& augmentations, RandomKey key) const {
  return gather(bytes_of(batch_stream, order_.numbers(), begin, end, true, key), order_.on_device.slice(0, begin, end),
                part(order_.numbers(), begin, end), augmentations, key);
}

Batch DataPipeline::samples(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                            const Augmentations& augmentations, RandomKey key) const {
  const std::span<const int64_t> numbers = part(order, begin, end);
  return gather(bytes_of(first_stream + stream, order, begin, end, true, key),
                at::tensor(at::ArrayRef<int64_t>(numbers.data(), numbers.size()), at::kLong).to(targets_.device()),
                numbers, augmentations, key);
}

Batch DataPipeline::plain_batch(int64_t begin, int64_t end) const {
  return gather(bytes_of(plain_stream, all_.numbers(), begin, end, false, RandomKey()),
                all_.on_device.slice(0, begin, end), {}, {}, RandomKey());
}

at::Tensor DataPipeline::bytes_of(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                                  bool training, RandomKey key) const {
  if (!reader_) return inputs_;
  // A key of its own, so that what a data set draws has nothing to do with the augmentation.
  const at::Tensor bytes = reader_->read(stream, order, begin, end, training, key.with("read"));
  return bytes.to(targets_.device(), /*non_blocking=*/true);
}

Batch DataPipeline::gather(const at::Tensor& bytes, const at::Tensor& samples, std::span<const int64_t> numbers,
                           const Augmentations& augmentations, RandomKey key) const {
  const int64_t count = samples.size(0);
  const int64_t channels = bytes.size(1), height = bytes.size(2), width = bytes.size(3);
  at::Tensor out =
      at::empty({count, channels, height, width},
                at::TensorOptions().dtype(dtype_).device(bytes.device()).memory_format(at::MemoryFormat::ChannelsLast));
  const GatherArguments a{bytes.const_data_ptr<uint8_t>(),
                          samples.const_data_ptr<int64_t>(),
                          count,
                          reader_ != nullptr,
                          static_cast<int>(channels),
                          static_cast<int>(height),
                          static_cast<int>(width),
                          augmentations.pass,
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
  Batch batch{out, targets_.index_select(0, samples)};
  if (!augmentations.others.empty()) apply(augmentations, numbers, key, batch);
  return batch;
}

void DataPipeline::apply(const Augmentations& augmentations, std::span<const int64_t> numbers, RandomKey key,
                         Batch& batch) const {
  const c10::NoGradGuard no_grad;
  ImageBatch images{batch.input, batch.target, 0, {}, {}, {}};
  for (int64_t c = 0; c < batch.input.size(1); ++c) {
    const double black = normalization_.shift[c];
    images.black.push_back(black);
    images.white.push_back(255.0 * normalization_.scale[c] + black);
  }
  const std::vector<int64_t> sizes = batch.input.sizes().vec();
  for (size_t i = 0; i < augmentations.others.size(); ++i) {
    images.keys.clear();
    for (const int64_t n : numbers)
      images.keys.push_back(key.with(static_cast<uint64_t>(n)).with("augmentation").with(static_cast<uint64_t>(i)));
    augmentations.others[i]->apply(images);
    if (images.images.sizes() != at::IntArrayRef(sizes) || images.images.scalar_type() != dtype_)
      throw Error(augmentations.labels[i] + " changed the shape or the type of the images");
  }
  batch = {images.images, images.targets};
}

}  // namespace espalier
