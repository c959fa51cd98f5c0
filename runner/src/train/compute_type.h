#pragma once

#include <string>

#include <ATen/autocast_mode.h>

namespace espalier {

// Autocast to bfloat16 for a scope. The cast cache is off: weights change several times a step in some methods.
class ComputeType {
 public:
  ComputeType(const std::string& precision, at::Device device)
      : type_(device.type()), was_(at::autocast::is_autocast_enabled(type_)) {
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_enabled(type_, precision == "bf16");
  }
  ComputeType(const ComputeType&) = delete;
  ComputeType& operator=(const ComputeType&) = delete;
  ~ComputeType() { at::autocast::set_autocast_enabled(type_, was_); }

 private:
  at::DeviceType type_;
  bool was_;
};

}  // namespace espalier
