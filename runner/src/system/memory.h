#pragma once

#include <cstdint>

namespace espalier {

// The largest part of the memory, in bytes, that the process held since restart_peak_memory(), or since its start.
int64_t peak_memory();
// Begins the peak anew, also that of tensors (tensor_memory.h). Where the system does not allow it (a /proc that cannot
// be written), the process's stays that of its whole life.
void restart_peak_memory();
// Hands memory that was freed back to the system. It takes milliseconds, and what is needed again is handed out page by
// page, so this is for the moment after which less is needed than before.
void return_free_memory();

}  // namespace espalier
