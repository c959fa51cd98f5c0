#pragma once

// Stands in for the CUDA header of the same name, which nvcc includes into every source: the words, the variables and
// the functions that kernels have without including anything. What each does stands in NVIDIA's CUDA C++ Programming
// Guide; where the guide calls something undefined, this is an error that ends the launch (see cuda_emulation.h).

#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include <math.h>

#include "cuda_emulation.h"
#include "cuda_runtime_api.h"

#define __CUDACC__
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// Waits until all threads of the block are here. All must come to the same line, and none may have ended.
void __syncthreads(std::source_location where = std::source_location::current());

// Waits until the lanes of the mask are here, and orders what they wrote before against what they read afterwards.
void __syncwarp(unsigned mask = 0xffffffffU, std::source_location where = std::source_location::current());

// What a memory fence orders between blocks is nothing here: blocks run one after the other.
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace cuda_emulation::detail {

// Gives `value` to the lanes of the mask, waits for theirs, and returns the one of lane `from`. `what` is for messages.
uint64_t exchange(unsigned mask, uint64_t value, int from, const char* what, std::source_location where);
// Returns the lanes of the mask that gave a number other than zero.
unsigned vote(unsigned mask, bool value, const char* what, std::source_location where);
// Returns the calling thread's lane, 0 to 31.
int lane();

template <class T>
T exchange_value(unsigned mask, T value, int from, const char* what, std::source_location where) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles take numbers of 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, from, what, where);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace cuda_emulation::detail

// Values of other lanes, each within its group of `width` lanes (a power of two); a lane whose partner would lie
// outside of the group gets its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32,
              std::source_location where = std::source_location::current()) {
  const int first = cuda_emulation::detail::lane() / width * width;
  return cuda_emulation::detail::exchange_value(mask, value, first + (from & (width - 1)), "__shfl_sync", where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const int lane = cuda_emulation::detail::lane(), first = lane / width * width;
  const int from = lane - static_cast<int>(by);
  return cuda_emulation::detail::exchange_value(mask, value, from < first ? lane : from, "__shfl_up_sync", where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const int lane = cuda_emulation::detail::lane(), last = lane / width * width + width - 1;
  const int from = lane + static_cast<int>(by);
  return cuda_emulation::detail::exchange_value(mask, value, from > last ? lane : from, "__shfl_down_sync", where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const int lane = cuda_emulation::detail::lane(), last = lane / width * width + width - 1;
  const int from = lane ^ bits;
  return cuda_emulation::detail::exchange_value(mask, value, from > last ? lane : from, "__shfl_xor_sync", where);
}

inline unsigned __ballot_sync(unsigned mask, int value, std::source_location where = std::source_location::current()) {
  return cuda_emulation::detail::vote(mask, value != 0, "__ballot_sync", where);
}
inline int __any_sync(unsigned mask, int value, std::source_location where = std::source_location::current()) {
  return cuda_emulation::detail::vote(mask, value != 0, "__any_sync", where) != 0;
}
inline int __all_sync(unsigned mask, int value, std::source_location where = std::source_location::current()) {
  return cuda_emulation::detail::vote(mask, value != 0, "__all_sync", where) == mask;
}

// Each returns what was there before. They are functions of the emulation's own sources, so that the watch for races
// sees an atomic access.
int atomicAdd(int* at, int value);
unsigned atomicAdd(unsigned* at, unsigned value);
unsigned long long atomicAdd(unsigned long long* at, unsigned long long value);
float atomicAdd(float* at, float value);
double atomicAdd(double* at, double value);
int atomicMax(int* at, int value);
unsigned atomicMax(unsigned* at, unsigned value);
unsigned long long atomicMax(unsigned long long* at, unsigned long long value);
int atomicMin(int* at, int value);
unsigned atomicMin(unsigned* at, unsigned value);
unsigned long long atomicMin(unsigned long long* at, unsigned long long value);
int atomicCAS(int* at, int expected, int value);
unsigned atomicCAS(unsigned* at, unsigned expected, unsigned value);
unsigned long long atomicCAS(unsigned long long* at, unsigned long long expected, unsigned long long value);
