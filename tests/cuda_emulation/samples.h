#pragma once

#include <cstdint>
#include <vector>

// Small kernels to test the emulation with: some that are right, and some with a mistake each.
namespace samples {

// Right ones.

// *total = sum of n numbers, by blocks of `threads` (a power of two) with memory whose size the launch says.
void sum(const int* x, int n, int* total, unsigned threads);
// out[i] = the sum of the numbers of the warp of element i, by each of the shuffles in turn (0 to 3).
void warp_sums(const double* x, double* out, int warps, int way);
// For each warp of x the ballot of the numbers above 0, whether there is one, and whether all are.
void votes(const int* x, unsigned* ballots, int* any, int* all, int warps);
// Turns a matrix of rows x columns by tiles of 8 x 8 in three dimensions of threads.
void transpose(const float* x, float* out, int rows, int columns);
// Lanes give their numbers to the next lane of the warp by shared memory and __syncwarp().
void pass_on(const int* x, int* out, int warps);
// The largest, the smallest, and how many differ from `expected`, by atomics.
void extremes(const int* x, int n, int* largest, int* smallest);

// Wrong ones.

void sum_without_barrier(const int* x, int* total);
void pass_on_without_syncwarp(const int* x, int* out);
void tail_without_guard(float* x, int n);
void reads_the_element_before(const float* x, float* out, int n);
void shared_index_too_large(int* out);
void blocks_overlap(int* out);
void counts_without_atomic(int* total);
void takes_places_by_chance(const int* x, int n, int* out, int* count);
void reads_fresh_shared_memory(int* out);
void barrier_in_a_branch();
void return_before_a_barrier();
void two_barriers_for_one();
void shuffle_of_half_a_warp(int* out);
void shuffle_from_outside_the_mask(int* out);
void mask_without_the_caller();
void mask_beyond_the_block();
void shifts_too_far(int* out, int by);
void launches(unsigned blocks, unsigned threads, unsigned bytes);
void too_much_shared_memory();

}  // namespace samples
