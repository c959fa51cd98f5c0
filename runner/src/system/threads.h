#pragma once

#include <cstdint>

namespace espalier {

// Sets the number of CPU threads, 0: one for each core that the process may use. Where they are as many as the cores,
// each is bound to one: unbound, OpenMP's threads are moved about beside another busy process and wait for each other
// ten times as long. Fewer threads are left to the system, which keeps several runs off each other's cores. More than
// cores are warned of. Throws Error where OpenMP does not give them, naming the variables that stand in the way:
// LibTorch would wait for those that do not come.
void use_threads(int64_t threads);

// Frees the calling thread from the core that it was bound to, or that the thread which started it was.
void use_any_core();

}  // namespace espalier
