#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

// Races between the threads of a launch: two of them access the same byte, one writes it, and neither a barrier nor
// __syncwarp() stands between both. In the program that watches races, kernels are compiled with -fsanitize=thread, and
// the functions that this makes them call at each access are not those of ThreadSanitizer, which knows no barriers of
// CUDA, but those of races.cpp. (The Linux kernel's KCSAN does the same.)
namespace cuda_emulation {

// A thread of a kernel at some moment.
struct Moment {
  static constexpr int lanes = 32;
  int64_t block = 0;      // number in the grid
  int thread = 0;         // number in the block
  uint32_t barriers = 0;  // of the block that the thread has passed
  // A vector clock of the warp: how many periods between __syncwarp() of each lane this thread comes after; its own
  // entry is the period that it is in.
  uint32_t clock[lanes] = {};
};

// Begins a launch: all earlier accesses come before its own.
void forget_accesses();
// Forgets the accesses to some memory, which is used for something else from now on.
void forget_accesses(const void* begin, size_t size);
// Says which thread's accesses come from now on; null: nobody's. *stack_begin to *stack_end is that thread's own.
void watch_accesses_of(const Moment* moment, const void* stack_begin, const void* stack_end);
// Notes an atomic access of the thread that runs, by the code at an address.
void note_atomic_access(const void* at, size_t size, const void* code);
// Returns the races that were found since the launch began, a line for each of the first few; empty if none.
std::string found_races();

// Is called while a thread runs: returns in words which memory an address lies in.
std::string name_of_memory(const void* address);

}  // namespace cuda_emulation
