#include <cuda_runtime.h>

#include "samples.h"

namespace samples {

namespace {

// Not a launch: kernel<<<1, 2>>>(3), nor is "kernel<<<1, 2>>>(3)" further down.

__global__ void sum_kernel(const int* x, int n, int* total) {
  extern __shared__ int partial[];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  partial[threadIdx.x] = i < n ? x[i] : 0;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) atomicAdd(total, partial[0]);
}

template <class T, int way>
__global__ void warp_sums_kernel(const T* x, T* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % warpSize;
  T mine = x[i];
  if (way == 0) {
    for (unsigned by = 16; by > 0; by /= 2) mine += __shfl_down_sync(0xffffffffU, mine, by);
    mine = __shfl_sync(0xffffffffU, mine, 0);
  } else if (way == 1) {
    for (unsigned by = 1; by < 32; by *= 2) {
      const T other = __shfl_up_sync(0xffffffffU, mine, by);
      if (lane >= by) mine += other;
    }
    mine = __shfl_sync(0xffffffffU, mine, 31);
  } else if (way == 2) {
    for (int bits = 16; bits > 0; bits /= 2) mine += __shfl_xor_sync(0xffffffffU, mine, bits);
  } else {
    // Groups of eight lanes first, whose first lanes then have the sums.
    for (unsigned by = 4; by > 0; by /= 2) mine += __shfl_down_sync(0xffffffffU, mine, by, 8);
    T all = 0;
    for (int group = 0; group < 4; ++group) all += __shfl_sync(0xffffffffU, mine, 8 * group);
    mine = all;
  }
  out[i] = mine;
}

__global__ __launch_bounds__(64) void votes_kernel(const int* x, unsigned* ballots, int* any, int* all) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned ballot = __ballot_sync(0xffffffffU, x[i] > 0);
  const int one = __any_sync(0xffffffffU, x[i] > 0), every = __all_sync(0xffffffffU, x[i] > 0);
  if (threadIdx.x % 32 != 0) return;
  ballots[i / 32] = ballot;
  any[i / 32] = one;
  all[i / 32] = every;
}

__global__ void transpose_kernel(const float* x, float* out, int rows, int columns) {
  __shared__ alignas(16) float tile[8][9];
  const int r = static_cast<int>(blockIdx.y * 8 + threadIdx.y), c = static_cast<int>(blockIdx.x * 8 + threadIdx.x);
  if (r < rows && c < columns) tile[threadIdx.y][threadIdx.x] = x[r * columns + c];
  __syncthreads();
  const int to_r = static_cast<int>(blockIdx.x * 8 + threadIdx.y),
            to_c = static_cast<int>(blockIdx.y * 8 + threadIdx.x);
  if (to_r < columns && to_c < rows) out[to_r * rows + to_c] = tile[threadIdx.x][threadIdx.y];
}

template <bool waits>
__global__ void pass_on_kernel(const int* x, int* out) {
  __shared__ int given[64];
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  given[threadIdx.x] = x[i];
  if (waits) __syncwarp();
  out[i] = given[threadIdx.x / 32 * 32 + (threadIdx.x + 1) % 32];
}

__global__ void extremes_kernel(const int* x, int n, int* largest, int* smallest) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  atomicMax(largest, x[i]);
  atomicMin(smallest, x[i]);
}

__global__ void sum_without_barrier_kernel(const int* x, int* total) {
  __shared__ unsigned partial[64];
  partial[threadIdx.x] = static_cast<unsigned>(x[threadIdx.x]);
  for (unsigned half = 32; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *total = static_cast<int>(partial[0]);
}

__global__ void tail_without_guard_kernel(float* x) {
  x[blockIdx.x * blockDim.x + threadIdx.x] += 1;
}

__global__ void reads_the_element_before_kernel(const float* x, float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = x[i - 1];
}

__global__ void shared_index_too_large_kernel(int* out) {
  __shared__ int given[32];
  given[threadIdx.x] = 1;
  __syncthreads();
  const int* all = given;
  out[threadIdx.x] = all[threadIdx.x + 1];
}

__global__ void blocks_overlap_kernel(int* out) {
  out[blockIdx.x * (blockDim.x - 1) + threadIdx.x] = static_cast<int>(threadIdx.x);
}

__global__ void counts_without_atomic_kernel(int* total) {
  *total += 1;
}

__global__ void takes_places_by_chance_kernel(const int* x, int n, int* out, int* count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[atomicAdd(count, 1)] = x[i];
}

__global__ void reads_fresh_shared_memory_kernel(int* out) {
  __shared__ int sums[32];
  sums[threadIdx.x] += 1;
  out[threadIdx.x] = sums[threadIdx.x];
}

__global__ void barrier_in_a_branch_kernel() {
  if (threadIdx.x < 16) __syncthreads();
}

__global__ void return_before_a_barrier_kernel() {
  if (threadIdx.x >= 48) return;
  __syncthreads();
}

__global__ void two_barriers_for_one_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void shuffle_of_half_a_warp_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffffffU, static_cast<int>(threadIdx.x), 1);
}

__global__ void shuffle_from_outside_the_mask_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffU, static_cast<int>(threadIdx.x), 1);
}

__global__ void mask_without_the_caller_kernel() {
  __syncwarp(1);
}

__global__ void mask_beyond_the_block_kernel() {
  __syncwarp();
}

__global__ void shifts_too_far_kernel(int* out, int by) {
  out[threadIdx.x] = 1 << by;
}

__global__ void launches_kernel() {}

__global__ void too_much_shared_memory_kernel() {
  __shared__ double first[4096], second[4096];
  first[threadIdx.x] = second[threadIdx.x] = 0;
}

unsigned blocks_for(int n, unsigned threads) {
  return (static_cast<unsigned>(n) + threads - 1) / threads;
}

}  // namespace

void sum(const int* x, int n, int* total, unsigned threads) {
  sum_kernel<<<blocks_for(n, threads), threads, threads * sizeof(int)>>>(x, n, total);
}

void warp_sums(const double* x, double* out, int warps, int way) {
  const auto blocks = static_cast<unsigned>(warps);
  if (way == 0) warp_sums_kernel<double, 0><<<blocks, 32>>>(x, out);
  if (way == 1) warp_sums_kernel<double, 1><<<blocks, 32>>>(x, out);
  if (way == 2) warp_sums_kernel<double, 2><<<blocks, 32>>>(x, out);
  if (way == 3) {
    warp_sums_kernel<double,
                     3><<<blocks,  // a launch of several lines
                          32>>>(x, out);
  }
}

void votes(const int* x, unsigned* ballots, int* any, int* all, int warps) {
  votes_kernel<<<static_cast<unsigned>(warps / 2), 64>>>(x, ballots, any, all);
}

void transpose(const float* x, float* out, int rows, int columns) {
  transpose_kernel<<<dim3(blocks_for(columns, 8), blocks_for(rows, 8)), dim3(8, 8)>>>(x, out, rows, columns);
}

void pass_on(const int* x, int* out, int warps) {
  pass_on_kernel<true><<<static_cast<unsigned>(warps / 2), 64>>>(x, out);
}

void pass_on_without_syncwarp(const int* x, int* out) {
  pass_on_kernel<false><<<1, 64>>>(x, out);
}

void extremes(const int* x, int n, int* largest, int* smallest) {
  extremes_kernel<<<blocks_for(n, 64), 64>>>(x, n, largest, smallest);
}

void sum_without_barrier(const int* x, int* total) {
  sum_without_barrier_kernel<<<1, 64>>>(x, total);
}

void tail_without_guard(float* x, int n) {
  tail_without_guard_kernel<<<blocks_for(n, 32), 32>>>(x);
}

void reads_the_element_before(const float* x, float* out, int n) {
  reads_the_element_before_kernel<<<blocks_for(n, 32), 32>>>(x, out, n);
}

void shared_index_too_large(int* out) {
  shared_index_too_large_kernel<<<1, 32>>>(out);
}

void blocks_overlap(int* out) {
  blocks_overlap_kernel<<<2, 32>>>(out);
}

void counts_without_atomic(int* total) {
  counts_without_atomic_kernel<<<2, 1>>>(total);
}

void takes_places_by_chance(const int* x, int n, int* out, int* count) {
  takes_places_by_chance_kernel<<<blocks_for(n, 32), 32>>>(x, n, out, count);
}

void reads_fresh_shared_memory(int* out) {
  reads_fresh_shared_memory_kernel<<<1, 32>>>(out);
}

void barrier_in_a_branch() {
  barrier_in_a_branch_kernel<<<1, 64>>>();
}

void return_before_a_barrier() {
  return_before_a_barrier_kernel<<<1, 64>>>();
}

void two_barriers_for_one() {
  two_barriers_for_one_kernel<<<1, 64>>>();
}

void shuffle_of_half_a_warp(int* out) {
  shuffle_of_half_a_warp_kernel<<<1, 32>>>(out);
}

void shuffle_from_outside_the_mask(int* out) {
  shuffle_from_outside_the_mask_kernel<<<1, 32>>>(out);
}

void mask_without_the_caller() {
  mask_without_the_caller_kernel<<<1, 32>>>();
}

void mask_beyond_the_block() {
  mask_beyond_the_block_kernel<<<1, 33>>>();
}

void shifts_too_far(int* out, int by) {
  shifts_too_far_kernel<<<1, 1>>>(out, by);
}

void launches(unsigned blocks, unsigned threads, unsigned bytes) {
  launches_kernel<<<blocks, threads, bytes>>>();
}

void too_much_shared_memory() {
  too_much_shared_memory_kernel<<<1, 1>>>();
}

}  // namespace samples
