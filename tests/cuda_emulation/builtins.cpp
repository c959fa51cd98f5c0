#include <algorithm>

#include "block.h"
#include "cuda_runtime.h"
#include "races.h"

using cuda_emulation::Block;

void __syncthreads(std::source_location where) {
  Block::current().wait_for_block(where);
}

void __syncwarp(unsigned mask, std::source_location where) {
  Block::current().wait_for_lanes(mask, 0, "__syncwarp", where);
}

namespace cuda_emulation::detail {

int lane() {
  return Block::current().lane();
}

uint64_t exchange(unsigned mask, uint64_t value, int from, const char* what, std::source_location where) {
  Block& block = Block::current();
  const uint64_t* given = block.wait_for_lanes(mask, value, what, where);
  if (!(mask >> from & 1)) {
    block.fail(std::string(what) + " in " + where.file_name() + ":" + std::to_string(where.line()) + ": lane " +
               std::to_string(block.lane()) + " reads from lane " + std::to_string(from) +
               ", which the mask does not name");
  }
  return given[from];
}

unsigned vote(unsigned mask, bool value, const char* what, std::source_location where) {
  const uint64_t* given = Block::current().wait_for_lanes(mask, value, what, where);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if (mask >> i & 1 && given[i] != 0) votes |= 1U << i;
  }
  return votes;
}

namespace {

// Only one thread runs at a time, so nothing more is needed.
template <class T, class Function>
T change(T* at, const void* code, const Function& function) {
  note_atomic_access(at, sizeof(T), code);
  const T before = *at;
  *at = function(before);
  return before;
}

}  // namespace

}  // namespace cuda_emulation::detail

using cuda_emulation::detail::change;

#define CUDA_EMULATION_ATOMIC(name, T, expression)                                             \
  T name(T* at, T value) {                                                                     \
    return change(at, __builtin_return_address(0), [&](T before) -> T { return expression; }); \
  }
CUDA_EMULATION_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(before) + static_cast<unsigned>(value)))
CUDA_EMULATION_ATOMIC(atomicAdd, unsigned, before + value)
CUDA_EMULATION_ATOMIC(atomicAdd, unsigned long long, before + value)
CUDA_EMULATION_ATOMIC(atomicAdd, float, before + value)
CUDA_EMULATION_ATOMIC(atomicAdd, double, before + value)
CUDA_EMULATION_ATOMIC(atomicMax, int, std::max(before, value))
CUDA_EMULATION_ATOMIC(atomicMax, unsigned, std::max(before, value))
CUDA_EMULATION_ATOMIC(atomicMax, unsigned long long, std::max(before, value))
CUDA_EMULATION_ATOMIC(atomicMin, int, std::min(before, value))
CUDA_EMULATION_ATOMIC(atomicMin, unsigned, std::min(before, value))
CUDA_EMULATION_ATOMIC(atomicMin, unsigned long long, std::min(before, value))
#undef CUDA_EMULATION_ATOMIC

#define CUDA_EMULATION_CAS(T)                                                                                      \
  T atomicCAS(T* at, T expected, T value) {                                                                        \
    return change(at, __builtin_return_address(0), [&](T before) { return before == expected ? value : before; }); \
  }
CUDA_EMULATION_CAS(int)
CUDA_EMULATION_CAS(unsigned)
CUDA_EMULATION_CAS(unsigned long long)
#undef CUDA_EMULATION_CAS
