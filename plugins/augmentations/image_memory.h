#pragma once

// What augmentations of this folder share: the memory of images, and numbers on their way to the device.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <ATen/ops/empty.h>

#include <espalier/augmentation.h>

namespace espalier {

// Makes the images dense, one pixel after the other: [batch, height, width, channels] in memory.
inline void make_dense(ImageBatch& batch) {
  batch.images = batch.images.contiguous(at::MemoryFormat::ChannelsLast);
}

// Calls body(images), with a pointer to the first number of dense images.
template <class Body>
void with_numbers(const at::Tensor& images, const Body& body) {
  if (images.scalar_type() == at::kDouble) {
    body(images.data_ptr<double>());
  } else {
    body(images.data_ptr<float>());
  }
}

// Returns memory of the CPU for numbers that go to the device of `like`. A copy to the GPU from ordinary memory would
// wait for it, one from pinned memory does not.
inline at::Tensor memory_for(int64_t count, const at::Tensor& like, at::ScalarType type) {
  return at::empty({count}, at::TensorOptions().dtype(type).pinned_memory(like.is_cuda()));
}

// Returns numbers as a tensor on the device of `like`.
template <class T>
at::Tensor on_device(const std::vector<T>& numbers, const at::Tensor& like) {
  const at::Tensor t = memory_for(static_cast<int64_t>(numbers.size()), like, c10::CppTypeToScalarType<T>::value);
  std::copy(numbers.begin(), numbers.end(), t.data_ptr<T>());
  return t.to(like.device(), /*non_blocking=*/true);
}

// Returns one number for each channel so that it meets images, [1, channels, 1, 1].
inline at::Tensor of_channels(const std::vector<double>& numbers, const at::Tensor& images) {
  return on_device(numbers, images).to(images.scalar_type()).view({1, -1, 1, 1});
}

}  // namespace espalier
