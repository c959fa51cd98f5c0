#pragma once

#include <cstdint>

namespace espalier {

// From now on, large tensors on the CPU lie in a range of memory of their own. A training step asks for the same sizes
// again and again, so what is freed is kept for the next tensor that fits (the smallest block that does, joined with
// its free neighbours); and since nothing else lies between them, what is free can be handed back as a whole when a
// network became smaller, see return_free_memory(). Call it before the first tensor is made. It has no effect
// where the system does not reserve the range.
void keep_tensor_memory();

// Hands what is free of that range back to the system.
void return_free_tensor_memory();

// The most bytes of that range that were in use at a time since restart_peak_tensor_memory(); 0 where it is not used.
int64_t peak_tensor_memory();
void restart_peak_tensor_memory();

}  // namespace espalier
