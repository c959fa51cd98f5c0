#pragma once

// Stands in for the CUDA header of the same name: the types that functions which launch kernels take.

struct CUstream_st;
using cudaStream_t = CUstream_st*;

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned in_x = 1, unsigned in_y = 1, unsigned in_z = 1)  // NOLINT(google-explicit-constructor)
      : x(in_x), y(in_y), z(in_z) {}
};
