#pragma once

#include <mutex>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

class OnnxNodes;

// Tensors that an operation's forward pass needs and that depend on nothing but sizes, made once for each device: a
// copy from the host would wait in every step, and cannot be captured.
class DeviceConstants {
 public:
  // `make` gives the tensor on the CPU; what is not of integers becomes of the dtype.
  template <class Make>
  at::Tensor get(const std::vector<int64_t>& key, at::Device device, at::ScalarType dtype, const Make& make) const {
    const std::lock_guard lock(mutex_);
    for (const Entry& e : entries_) {
      if (e.key == key && e.device == device && e.dtype == dtype) return e.tensor;
    }
    // Images of many sizes come and go.
    if (entries_.size() == most) entries_.erase(entries_.begin());
    entries_.push_back({key, device, dtype, moved(make(), device, dtype)});
    return entries_.back().tensor;
  }

 private:
  static constexpr size_t most = 64;
  struct Entry {
    std::vector<int64_t> key;
    at::Device device;
    at::ScalarType dtype;
    at::Tensor tensor;
  };
  static at::Tensor moved(const at::Tensor& t, at::Device device, at::ScalarType dtype);
  mutable std::mutex mutex_;
  mutable std::vector<Entry> entries_;
};

at::Tensor integers(const std::vector<int64_t>& values);
// Integers as a constant of ONNX: shapes, axes, positions.
std::string integers(OnnxNodes& to, const std::vector<int64_t>& values);

}  // namespace espalier
