#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

// Tensors as kernels read them that take float32 and bfloat16: float, or uint16_t for the bits of bfloat16.
namespace espalier {

inline bool is_of_numbers(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.numel() > 0;
}

// body(T()) with the type that the kernels read the tensor's numbers as.
template <class Body>
void with_number_type(const at::Tensor& x, const Body& body) {
  if (x.scalar_type() == at::kFloat) {
    body(float{});
  } else {
    body(uint16_t{});
  }
}

template <class T>
const T* numbers(const at::Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* numbers_of(const at::Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

}  // namespace espalier
