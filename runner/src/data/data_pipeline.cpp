#include "data/data_pipeline.h"

#include <algorithm>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "data/gather_cuda.h"
#include "data/gather_kernels.h"
#include "data/split.h"
#include "espalier/error.h"

namespace espalier {

namespace {

std::span<const int64_t> part(std::span<const int64_t> order, int64_t begin, int64_t end) {
  return order.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// Antialiased, as torchvision and Pillow do it.
at::Tensor resized(const at::Tensor& images, const ResizeSection& to) {
  if (to.size == 0 || (images.size(2) == to.size && images.size(3) == to.size)) return images;
  const c10::NoGradGuard no_grad;
  const at::Tensor x = to.bicubic ? at::_upsample_bicubic2d_aa(images, {to.size, to.size}, /*align_corners=*/false)
                                  : at::_upsample_bilinear2d_aa(images, {to.size, to.size}, /*align_corners=*/false);
  return x.contiguous(at::MemoryFormat::ChannelsLast);
}

// A key of its own, so that what a data set draws has nothing to do with the augmentation.
RandomKey reading(RandomKey key) {
  return key.with("read");
}

int64_t rounded_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Of one name, from each sample: the same ones in all, as those of the first.
std::vector<at::Tensor> of_all(const std::vector<Sample>& samples, NamedTensors Sample::*tensors,
                               const std::string& name) {
  std::vector<at::Tensor> all;
  for (const Sample& sample : samples) all.push_back(tensor_at(sample.*tensors, name, "tensor of a sample called"));
  return all;
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
    : device_(device),
      reader_(split.samples ? reader_of(split, device, on_demand) : nullptr),
      classes_(on_demand.classes),
      resize_(on_demand.resize),
      size_multiple_(on_demand.size_multiple),
      normalization_(normalization),
      dtype_(dtype) {
  const auto brought = [&](const NamedTensors& tensors) {
    NamedTensors all;
    for (const auto& [name, x] : tensors) {
      at::Tensor y = x.is_floating_point() ? x.to(dtype) : x;
      y = y.is_floating_point() && y.dim() == 4 ? y.contiguous(at::MemoryFormat::ChannelsLast) : y.contiguous();
      all.emplace_back(name, y.to(device));
    }
    return all;
  };
  inputs_ = brought(split.inputs);
  targets_ = brought(split.targets);
  const int64_t count = split.size();
  if (size_multiple_ > 0 && !reader_) throw Error("images that differ in size must be read on demand");
  if (!reader_) {
    if (inputs_.empty()) throw Error("a data set's part has no input");
    const at::Tensor& first = inputs_.front().second;
    if (first.scalar_type() == at::kByte) {
      if (first.dim() != 4) throw Error("images of bytes must be uint8 [N, channels, height, width]");
      bytes_ = first;
    }
  }
  if ((reader_ ? on_demand.image.channels : bytes_.defined() ? bytes_.size(1) : 0) > max_channels)
    throw Error("images of more than " + std::to_string(max_channels) + " channels");
  for (const auto& [name, y] : targets_) {
    const bool ragged = name.ends_with(offsets_suffix) || find_tensor(targets_, name + offsets_suffix);
    if (!ragged && y.size(0) != count)
      throw Error("a data set's targets must be [N, ...], one for each input, and '" + name + "' has " +
                  std::to_string(y.size(0)) + " for " + std::to_string(count));
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
  order_.on_device = order_.on_cpu.to(device_);
  in_order_ = order_.on_cpu.equal(all_.on_cpu);
}

Batch DataPipeline::batch(int64_t begin, int64_t end, const Augmentations& augmentations, RandomKey key) const {
  if (size_multiple_ > 0)
    return collate(reader_->read_samples(batch_stream, order_.numbers(), begin, end, true, reading(key)));
  const bool whole = in_order_ && begin == 0 && end == size() && !has_bytes();
  return make(bytes_of(batch_stream, order_.numbers(), begin, end, true, key),
              whole ? at::Tensor() : order_.on_device.slice(0, begin, end), part(order_.numbers(), begin, end),
              augmentations, key);
}

Batch DataPipeline::samples(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                            const Augmentations& augmentations, RandomKey key) const {
  if (size_multiple_ > 0)
    return collate(reader_->read_samples(first_stream + stream, order, begin, end, true, reading(key)));
  const std::span<const int64_t> numbers = part(order, begin, end);
  return make(bytes_of(first_stream + stream, order, begin, end, true, key),
              at::tensor(at::ArrayRef<int64_t>(numbers.data(), numbers.size()), at::kLong).to(device_), numbers,
              augmentations, key);
}

Batch DataPipeline::plain_batch(int64_t begin, int64_t end) const {
  if (size_multiple_ > 0)
    return collate(reader_->read_samples(plain_stream, all_.numbers(), begin, end, false, reading(RandomKey())));
  const bool whole = begin == 0 && end == size() && !has_bytes();
  return make(bytes_of(plain_stream, all_.numbers(), begin, end, false, RandomKey()),
              whole ? at::Tensor() : all_.on_device.slice(0, begin, end), {}, {}, RandomKey());
}

at::Tensor DataPipeline::bytes_of(int64_t stream, std::span<const int64_t> order, int64_t begin, int64_t end,
                                  bool training, RandomKey key) const {
  if (!reader_) return bytes_;
  const at::Tensor bytes = reader_->read(stream, order, begin, end, training, reading(key));
  return bytes.to(device_, /*non_blocking=*/true);
}

Batch DataPipeline::make(const at::Tensor& bytes, const at::Tensor& samples, std::span<const int64_t> numbers,
                         const Augmentations& augmentations, RandomKey key) const {
  // All of it at once is what there is: a full-batch step copies nothing.
  if (!samples.defined() && resize_.size == 0) return {inputs_, targets_};
  if (!samples.defined()) return make(bytes, all_.on_device, numbers, augmentations, key);
  Batch batch;
  if (bytes.defined()) batch.inputs.emplace_back("input", gather(bytes, samples, augmentations, key));
  for (const auto& [name, x] : inputs_) {
    if (x.is_same(bytes_)) continue;
    const at::Tensor some = x.index_select(0, samples);
    batch.inputs.emplace_back(name, name == "input" && some.dim() == 4 ? resized(some, resize_) : some);
  }
  batch.targets = rows_of(targets_, samples);
  if (!augmentations.others.empty()) apply(augmentations, numbers, key, batch);
  return batch;
}

Batch DataPipeline::collate(const std::vector<Sample>& samples) const {
  if (samples.empty()) throw Error("a batch without samples was asked for");
  const std::vector<at::Tensor> images = of_all(samples, &Sample::inputs, "input");
  const auto count = static_cast<int64_t>(images.size()), channels = images.front().size(0);
  int64_t height = 1, width = 1;
  for (const at::Tensor& image : images) {
    if (image.dim() != 3 || image.scalar_type() != at::kByte || image.size(0) != channels || channels > max_channels)
      throw Error("the image of a sample must be uint8 [channels, height, width], of as many channels as the others");
    height = std::max(height, image.size(1));
    width = std::max(width, image.size(2));
  }
  const at::Tensor bytes =
      at::zeros({count, channels, rounded_up(height, size_multiple_), rounded_up(width, size_multiple_)},
                at::TensorOptions().dtype(at::kByte).pinned_memory(device_.is_cuda()));
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor& image = images[static_cast<size_t>(i)];
    bytes[i].slice(1, 0, image.size(1)).slice(2, 0, image.size(2)).copy_(image);
  }
  Batch batch;
  const at::Tensor input = gather(bytes.to(device_, /*non_blocking=*/true), all_.on_device.slice(0, 0, count), {}, {});
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor& image = images[static_cast<size_t>(i)];
    input[i].slice(1, image.size(1)).zero_();
    input[i].slice(2, image.size(2)).zero_();
  }
  batch.inputs.emplace_back("input", input);
  for (const auto& [name, x] : samples.front().inputs) {
    if (name != "input")
      batch.inputs.emplace_back(name, at::stack(of_all(samples, &Sample::inputs, name)).to(device_, dtype_));
  }
  for (const auto& [name, x] : samples.front().targets)
    batch.targets.emplace_back(name, at::stack(of_all(samples, &Sample::targets, name)).to(device_));
  for (const auto& [name, x] : samples.front().rows) {
    const std::vector<at::Tensor> all = of_all(samples, &Sample::rows, name);
    std::vector<int64_t> offsets = {0};
    for (const at::Tensor& rows : all) offsets.push_back(offsets.back() + rows.size(0));
    batch.targets.emplace_back(name, at::cat(all).to(device_));
    batch.targets.emplace_back(name + offsets_suffix, at::tensor(offsets, at::kLong).to(device_));
  }
  return batch;
}

at::Tensor DataPipeline::gather(const at::Tensor& bytes, const at::Tensor& samples, const Augmentations& augmentations,
                                RandomKey key) const {
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
  return resized(out, resize_);
}

void DataPipeline::apply(const Augmentations& augmentations, std::span<const int64_t> numbers, RandomKey key,
                         Batch& batch) const {
  const c10::NoGradGuard no_grad;
  at::Tensor& input = batch.inputs.front().second;
  at::Tensor& target = batch.targets.front().second;
  ImageBatch images{input, target, classes_, {}, {}, {}};
  for (int64_t c = 0; c < input.size(1); ++c) {
    const double black = normalization_.shift[c];
    images.black.push_back(black);
    images.white.push_back(255.0 * normalization_.scale[c] + black);
  }
  const std::vector<int64_t> sizes = input.sizes().vec();
  for (size_t i = 0; i < augmentations.others.size(); ++i) {
    images.keys.clear();
    for (const int64_t n : numbers)
      images.keys.push_back(key.with(static_cast<uint64_t>(n)).with("augmentation").with(static_cast<uint64_t>(i)));
    augmentations.others[i]->apply(images);
    if (images.images.sizes() != at::IntArrayRef(sizes) || images.images.scalar_type() != dtype_)
      throw Error(augmentations.labels[i] + " changed the shape or the type of the images");
  }
  input = images.images;
  target = images.targets;
}

}  // namespace espalier
