#include "system/memory.h"

#include <fstream>
#include <string>

#include <malloc.h>
#include <sys/resource.h>

#include "system/tensor_memory.h"

namespace espalier {

int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

void restart_peak_memory() {
  restart_peak_tensor_memory();
  std::ofstream("/proc/self/clear_refs") << "5";  // proc(5): resets the peak resident set
}

void return_free_memory() {
  return_free_tensor_memory();
  malloc_trim(0);
}

}  // namespace espalier
